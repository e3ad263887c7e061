package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// httpAsker is one kept-alive connection. net/http's client would cost as much as the gateway's side of it.
type httpAsker struct {
	conn    net.Conn
	reader  *bufio.Reader
	request []byte
	place   int // where the number goes; -1 for nowhere
	buffer  []byte
}

func loadHTTP(asked *options) (*Load, error) {
	return closedLoop(asked, func(int) (asker, error) { return dialHTTP(asked) })
}

func dialHTTP(asked *options) (asker, error) {
	conn, err := net.Dial("tcp", asked.target)
	if err != nil {
		return nil, err
	}
	var text strings.Builder
	if asked.body == "" {
		fmt.Fprintf(&text, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", asked.path, asked.target)
	} else {
		fmt.Fprintf(&text, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			asked.path, asked.target, len(asked.body), asked.body)
	}
	request := []byte(text.String())
	place := bytes.Index(request, []byte("{n}"))
	return &httpAsker{conn: conn, reader: bufio.NewReaderSize(conn, 64<<10), request: request, place: place}, nil
}

func (h *httpAsker) close() { _ = h.conn.Close() }

func (h *httpAsker) ask(number int64) error {
	_ = h.conn.SetDeadline(time.Now().Add(lateTimeout))
	out := h.request
	if h.place >= 0 {
		h.buffer = append(h.buffer[:0], h.request[:h.place]...)
		h.buffer = strconv.AppendInt(h.buffer, number, 10)
		h.buffer = append(h.buffer, h.request[h.place+len("{n}"):]...)
		out = h.buffer
	}
	if _, err := h.conn.Write(out); err != nil {
		return err
	}
	return h.answer()
}

// answer reads one answer to its end. Its error names a status that is no success.
func (h *httpAsker) answer() error {
	line, err := h.line()
	if err != nil {
		return err
	}
	failed := !bytes.HasPrefix(line, []byte("HTTP/1.1 2"))
	status := string(line)
	length, chunked := 0, false
	for {
		if line, err = h.line(); err != nil {
			return err
		}
		if len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return err
			}
		case bytes.EqualFold(name, []byte("Transfer-Encoding")):
			chunked = true
		}
	}
	if chunked {
		err = h.skipChunks()
	} else {
		_, err = h.reader.Discard(length)
	}
	if err == nil && failed {
		err = errors.New(status)
	}
	return err
}

func (h *httpAsker) skipChunks() error {
	for {
		line, err := h.line()
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(string(line), 16, 32)
		if err != nil {
			return err
		}
		if _, err = h.reader.Discard(int(size) + len("\r\n")); err != nil || size == 0 {
			return err
		}
	}
}

func (h *httpAsker) line() ([]byte, error) {
	line, err := h.reader.ReadSlice('\n')
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return bytes.TrimRight(line, "\r\n"), err
}
