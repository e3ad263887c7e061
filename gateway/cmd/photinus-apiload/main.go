// Command photinus-apiload is the load generator of `make bench-api`: it asks a gateway or a core as fast as a number of
// connections allows, replays an event log over one WebSocket, or holds subscriptions open. It prints one line of JSON.
//
// It does as little as it can, so that what it measures is the other side: requests are bytes made beforehand, answers are
// read and not looked into beyond their status.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"
)

// options are what the command line says.
type options struct {
	mode        string
	target      string
	connections int
	duration    time.Duration
	warmUp      time.Duration
	path        string
	body        string
	call        string
	query       string
	namespace   string
	start       string
	numbers     int64
	events      int
	isBatch     bool
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "photinus-apiload:", err)
		os.Exit(1)
	}
}

func run() error {
	asked := &options{}
	flag.StringVar(&asked.mode, "mode", "http", "`what` to do: http, grpc, replay or hold")
	flag.StringVar(&asked.target, "target", "", "`address` of the gateway or the core, host:port or unix:path (required)")
	flag.IntVar(&asked.connections, "connections", 32, "connections, each with one request under way")
	flag.DurationVar(&asked.duration, "duration", 10*time.Second, "how long to measure")
	flag.DurationVar(&asked.warmUp, "warm-up", time.Second, "how long to ask before that")
	flag.StringVar(&asked.path, "path", "/api/v1/status", "http, replay, hold: `path` and query; {n} becomes the number of the request")
	flag.Int64Var(&asked.numbers, "numbers", 1<<62, "how many `numbers` {n} goes through before it begins again")
	flag.StringVar(&asked.body, "body", "", "http: `JSON` to POST; empty sends a GET")
	flag.StringVar(&asked.call, "call", "status", "grpc: `call` to make: status, messages or data")
	flag.StringVar(&asked.query, "query", "", "grpc: raw `query` of a list")
	flag.StringVar(&asked.namespace, "namespace", "default", "grpc: the `namespace`")
	flag.StringVar(&asked.start, "start", "", "replay, hold: `frame` that starts the subscription")
	flag.IntVar(&asked.events, "events", 100_000, "replay: events to wait for")
	flag.BoolVar(&asked.isBatch, "batch", false, "replay: events come in batches")
	flag.Parse()
	if asked.target == "" || asked.connections < 1 {
		return errors.New("-target and at least one connection are required")
	}
	var report any
	var err error
	switch asked.mode {
	case "http":
		report, err = loadHTTP(asked)
	case "grpc":
		report, err = loadGRPC(asked)
	case "replay":
		report, err = replay(asked)
	case "hold":
		return hold(asked)
	default:
		err = fmt.Errorf("mode %q is none of http, grpc, replay and hold", asked.mode)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}
