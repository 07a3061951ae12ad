"""What is measured, a program each, all with the same command line and output: see `bench.peers.script`.

`bench/libpq.go` is one of them in Go.
"""
