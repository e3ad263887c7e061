package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/coder/websocket"
)

// A frame of the server may hold a batch of large events.
const frameBytesMax = 64 << 20

// Replayed is what one replay gave.
type Replayed struct {
	Events    int     `json:"events"`
	Frames    int     `json:"frames"`
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"per_second"`
}

func dialSocket(ctx context.Context, asked *options) (*websocket.Conn, error) {
	conn, _, err := websocket.Dial(ctx, "ws://"+asked.target+asked.path, nil)
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(frameBytesMax)
	return conn, conn.Write(ctx, websocket.MessageText, []byte(asked.start))
}

// replay starts a subscription and acks what it gets until all events have come. Acks name what they are about, as those of
// FireFly's clients do.
func replay(asked *options) (*Replayed, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	began := time.Now()
	conn, err := dialSocket(ctx, asked)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.CloseNow() }()
	found := &Replayed{}
	ack := []byte(nil)
	for found.Events < asked.events {
		_, frame, err := conn.Read(ctx)
		if err != nil {
			return nil, fmt.Errorf("after %d events: %w", found.Events, err)
		}
		id, count, err := frameID(frame, asked.isBatch)
		if err != nil {
			return nil, err
		}
		found.Frames++
		found.Events += count
		ack = append(append(append(ack[:0], `{"type":"ack","id":"`...), id...), `"}`...)
		if err := conn.Write(ctx, websocket.MessageText, ack); err != nil {
			return nil, err
		}
	}
	found.Seconds = time.Since(began).Seconds()
	found.PerSecond = float64(found.Events) / found.Seconds
	return found, nil
}

var (
	idKey     = []byte(`"id":"`)
	batchHead = []byte(`{"type":"event_batch",`)
	eventMark = []byte(`"subscription":{`)
)

// frameID finds what to ack without reading the frame's JSON, and how many events it has.
func frameID(frame []byte, isBatch bool) ([]byte, int, error) {
	if bytes.HasPrefix(frame, batchHead) != isBatch || bytes.HasPrefix(frame, []byte(`{"type":"protocol_error"`)) {
		return nil, 0, fmt.Errorf("unexpected frame: %.200s", frame)
	}
	_, rest, found := bytes.Cut(frame, idKey)
	end := bytes.IndexByte(rest, '"')
	if !found || end < 0 {
		return nil, 0, fmt.Errorf("a frame without an id: %.200s", frame)
	}
	if !isBatch {
		return rest[:end], 1, nil
	}
	// Each event names its subscription, and so does the batch.
	return rest[:end], bytes.Count(frame, eventMark) - 1, nil
}

// hold opens sockets with a subscription each, says so, and ends them when its input ends.
func hold(asked *options) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var reading sync.WaitGroup
	for number := range asked.connections {
		own := *asked
		own.start = string(bytes.ReplaceAll([]byte(asked.start), []byte("{n}"), []byte(strconv.Itoa(number))))
		conn, err := dialSocket(ctx, &own)
		if err != nil {
			return err
		}
		defer func() { _ = conn.CloseNow() }()
		reading.Go(func() {
			for {
				if _, frame, err := conn.Read(ctx); err != nil {
					if ctx.Err() == nil {
						fmt.Fprintln(os.Stderr, "photinus-apiload: a subscription ended:", err)
					}
					return
				} else if bytes.HasPrefix(frame, []byte(`{"type":"protocol_error"`)) {
					fmt.Fprintf(os.Stderr, "photinus-apiload: %s\n", frame)
				}
			}
		})
	}
	if err := json.NewEncoder(os.Stdout).Encode(map[string]int{"open": asked.connections}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	cancel()
	reading.Wait()
	return errors.Join(err)
}
