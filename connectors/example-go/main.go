// Photinus-example-go is a shared-storage connector on a directory, written on the generated stubs alone.
//
// storage.go and the two JSON files are an author's part; the other files serve the protocol around it.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	socketPathMax = 100 // bytes; some systems take no more than 103
	drainGrace    = 3 * time.Second
)

func main() {
	address := flag.String("address", "", "where to listen, unix:/path (default: a socket of its own)")
	dataDir := flag.String("data-dir", os.Getenv("PHOTINUS_DATA_DIR"), "directory of the durable state (here)")
	flag.Parse()
	if err := run(strings.TrimPrefix(*address, "unix:"), *dataDir); err != nil {
		fmt.Fprintln(os.Stderr, description.GetName()+":", err)
		os.Exit(2)
	}
}

// run serves until SIGTERM, SIGINT or, when launched by a core, the end of standard input.
func run(socket, dataDir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if socket == "" {
		folder, err := os.MkdirTemp("", "photinus-") // mode 0700
		if err != nil {
			return err
		}
		defer os.RemoveAll(folder)
		socket = filepath.Join(folder, "connector.sock")
	}
	journal, err := openJournal(dataDir)
	if err != nil {
		return err
	}
	listener, err := listen(socket)
	if err != nil {
		return err
	}
	if os.Getenv("PHOTINUS_LAUNCHED") != "" {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin) // ends with the core, however that ended
			stop()
		}()
	}
	fmt.Printf(`{"handshake":1,"address":%q,"protocol":["v1"],"pid":%d}`+"\n", "unix:"+listener.Addr().String(), os.Getpid())
	c := newConnector(journal)
	context.AfterFunc(ctx, c.stop)
	return c.server.Serve(listener) // nil after stop, once all calls have ended
}

// listen binds a socket in a directory that is ours alone, in place of one that nobody serves any more.
func listen(path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	folder := filepath.Dir(path)
	if err != nil || len(path) > socketPathMax {
		return nil, fmt.Errorf("%s is longer than %d bytes; choose a shorter directory", path, socketPathMax)
	}
	_ = os.MkdirAll(folder, 0o700)
	if info, err := os.Stat(folder); err != nil || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s must be there and ours alone; type: chmod 700 %s", folder, folder)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Type() == os.ModeSocket {
		if _, err := net.Dial("unix", path); err == nil {
			return nil, fmt.Errorf("another process serves %s", path)
		}
		_ = os.Remove(path) // left by one that was killed
	}
	return net.Listen("unix", path)
}
