// lib/pq's Listener (Go), with the command line and the output of the peers in bench/peers: see script.py there.
//
// bench/golang.py builds it, from Debian's golang-go and golang-github-lib-pq-dev.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/lib/pq"
)

const channel = "bench"

var (
	uri   = os.Args[2]
	flags = flag.NewFlagSet("libpq", flag.ExitOnError)
	count = flags.Int("count", 1, "notifications, losses or channels")
)

type fields map[string]interface{}

func say(line fields) {
	if err := json.NewEncoder(os.Stdout).Encode(line); err != nil {
		log.Fatal(err)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func listening(events pq.EventCallbackType) *pq.Listener {
	listener := pq.NewListener(uri, 10*time.Millisecond, time.Second, events)
	check(listener.Listen(channel))
	say(fields{"ready": true})
	return listener
}

// cpu returns the seconds of user and system time of this process.
func cpu() float64 {
	var usage syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func burst() {
	listener := listening(nil)
	last := <-listener.Notify
	wall, used := time.Now(), cpu()
	for taken := 1; taken < *count; taken++ {
		last = <-listener.Notify
	}
	seconds, used := time.Since(wall).Seconds(), cpu()-used
	if number := strings.Fields(last.Extra)[0]; number != strconv.Itoa(*count-1) {
		log.Fatalf("the last of %d should not be %s", *count, number)
	}
	say(fields{"seconds": seconds, "cpu": used, "taken": *count})
}

func latency() {
	listener := listening(nil)
	for i := 0; i < *count; i++ {
		notification := <-listener.Notify
		now := time.Now().UnixNano()
		sent, err := strconv.ParseInt(notification.Extra, 10, 64)
		check(err)
		say(fields{"latency": time.Duration(now - sent).Seconds()})
	}
}

func main() {
	check(flags.Parse(os.Args[3:]))
	map[string]func(){"burst": burst, "latency": latency}[os.Args[1]]()
}
