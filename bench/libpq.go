// lib/pq's Listener (Go), with the command line and the output of the peers in bench/peers: see script.py there.
//
// bench/golang.py builds it, from Debian's golang-go and golang-github-lib-pq-dev.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
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
	for consumed := 1; consumed < *count; consumed++ {
		last = <-listener.Notify
	}
	seconds, used := time.Since(wall).Seconds(), cpu()-used
	if number := strings.Fields(last.Extra)[0]; number != strconv.Itoa(*count-1) {
		log.Fatalf("the last of %d should not be %s", *count, number)
	}
	say(fields{"seconds": seconds, "cpu": used, "consumed": *count})
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

// back returns an event callback, and what it tells: when the connection is back.
func back() (pq.EventCallbackType, chan int64) {
	came := make(chan int64, 1)
	return func(event pq.ListenerEventType, err error) {
		if event == pq.ListenerEventReconnected {
			came <- time.Now().UnixNano()
		}
	}, came
}

func losses() {
	events, came := back()
	listener := listening(events)
	go drain(listener)
	for i := 0; i < *count; i++ {
		say(fields{"back": <-came})
	}
}

func drain(listener *pq.Listener) {
	for range listener.Notify {
	}
}

func channelName(number int) string {
	return fmt.Sprintf("channel_%d", number)
}

func channels() {
	events, came := back()
	listener := listening(events)
	go drain(listener)
	wall, used := time.Now(), cpu()
	var waiting sync.WaitGroup
	for i := 0; i < *count; i++ {
		waiting.Add(1)
		go func(number int) {
			defer waiting.Done()
			check(listener.Listen(channelName(number)))
		}(i)
	}
	waiting.Wait()
	seconds, since := time.Since(wall).Seconds(), cpu()
	say(fields{"seconds": seconds, "cpu": since - used})
	at := <-came
	say(fields{"back": at, "cpu": cpu() - since})
}

// resident returns the bytes of memory that this process has in use (proc(5), VmRSS).
func resident() int64 {
	debug.FreeOSMemory()
	status, err := os.ReadFile("/proc/self/status")
	check(err)
	kilobytes := strings.Fields(strings.SplitN(string(status), "VmRSS:", 2)[1])[0]
	size, err := strconv.ParseInt(kilobytes, 10, 64)
	check(err)
	return size * 1024
}

func memory() {
	listener := listening(nil)
	before := resident()
	for i := 0; i < *count; i++ {
		check(listener.Listen(channelName(i)))
	}
	say(fields{"bytes": resident() - before})
}

func idle() {
	for i := 0; i < *count; i++ {
		listener := pq.NewListener(uri, 10*time.Millisecond, time.Second, nil)
		check(listener.Listen(channel))
		go drain(listener)
	}
	say(fields{"ready": true})
	time.Sleep(time.Hour)
}

func main() {
	check(flags.Parse(os.Args[3:]))
	map[string]func(){
		"burst": burst, "latency": latency, "losses": losses, "channels": channels, "memory": memory, "idle": idle,
	}[os.Args[1]]()
}
