package main

import (
	"slices"
	"sync"
	"time"
)

const lateTimeout = 30 * time.Second

// Load is what a closed loop of requests gave.
type Load struct {
	Requests  int     `json:"requests"`
	Errors    int     `json:"errors"`
	Failure   string  `json:"failure,omitempty"` // the first one
	PerSecond float64 `json:"per_second"`
	MeanMS    float64 `json:"mean_ms"`
	P50MS     float64 `json:"p50_ms"`
	P99MS     float64 `json:"p99_ms"`
}

// asker sends one request and waits for its answer; each belongs to one worker.
type asker interface {
	ask(number int64) error
	close()
}

// sample is what one worker saw.
type sample struct {
	latencies []time.Duration
	errors    int
	failure   error
}

// closedLoop runs workers that each have one request under way. What begins before the warm-up is over is not counted.
func closedLoop(asked *options, connect func(worker int) (asker, error)) (*Load, error) {
	askers := make([]asker, asked.connections)
	for worker := range askers {
		made, err := connect(worker)
		if err != nil {
			return nil, err
		}
		defer made.close()
		askers[worker] = made
	}
	begin := time.Now().Add(asked.warmUp)
	end := begin.Add(asked.duration)
	samples := make([]sample, len(askers))
	var done sync.WaitGroup
	for worker, each := range askers {
		done.Go(func() { samples[worker] = work(asked, each, int64(worker), begin, end) })
	}
	done.Wait()
	return summary(samples, asked.duration), nil
}

func work(asked *options, each asker, number int64, begin, end time.Time) sample {
	var seen sample
	for {
		started := time.Now()
		if !started.Before(end) {
			return seen
		}
		err := each.ask(number % asked.numbers)
		number += int64(asked.connections)
		finished := time.Now()
		switch {
		case err != nil:
			seen.errors++
			if seen.failure == nil {
				seen.failure = err
			}
			if seen.errors > 100 {
				return seen
			}
		case !started.Before(begin) && !finished.After(end):
			seen.latencies = append(seen.latencies, finished.Sub(started))
		}
	}
}

func summary(samples []sample, duration time.Duration) *Load {
	found := &Load{}
	var all []time.Duration
	for _, seen := range samples {
		all = append(all, seen.latencies...)
		found.Errors += seen.errors
		if seen.failure != nil && found.Failure == "" {
			found.Failure = seen.failure.Error()
		}
	}
	found.Requests = len(all)
	if len(all) == 0 {
		return found
	}
	slices.Sort(all)
	var total time.Duration
	for _, latency := range all {
		total += latency
	}
	found.PerSecond = float64(len(all)) / duration.Seconds()
	found.MeanMS = milliseconds(total) / float64(len(all))
	found.P50MS = milliseconds(all[len(all)/2])
	found.P99MS = milliseconds(all[len(all)*99/100])
	return found
}

func milliseconds(span time.Duration) float64 { return float64(span) / float64(time.Millisecond) }
