"""The measured programs, which share a command line and output: see `bench.peers.script`.

`bench/libpq.go` is one of them in Go.
"""
