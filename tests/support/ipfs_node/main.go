// ipfs_node is a small offline IPFS node for tests: the part of Kubo's RPC API and HTTP gateway that a shared-storage
// client uses, on the libraries Kubo itself is built on. It keeps everything in memory, listens on loopback only, and
// prints one JSON line with its two addresses once both are open. Its answers are compared with those of a recorded
// Kubo by tests/integration/ipfs.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ipfs/boxo/blockservice"
	"github.com/ipfs/boxo/blockstore"
	"github.com/ipfs/boxo/exchange/offline"
	"github.com/ipfs/boxo/gateway"
	"github.com/ipfs/boxo/ipld/merkledag"
	"github.com/ipfs/boxo/pinning/pinner/dspinner"
	"github.com/ipfs/go-datastore"
	dssync "github.com/ipfs/go-datastore/sync"
)

const shutdownGrace = 2 * time.Second

func main() {
	rpcAddress := flag.String("rpc", "127.0.0.1:0", "address of the RPC API")
	gatewayAddress := flag.String("gateway", "127.0.0.1:0", "address of the gateway")
	flag.Parse()
	if err := run(*rpcAddress, *gatewayAddress); err != nil {
		log.Fatal(err)
	}
}

func run(rpcAddress, gatewayAddress string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	node, err := newNode(ctx)
	if err != nil {
		return err
	}
	backend, err := gateway.NewBlocksBackend(node.blocks)
	if err != nil {
		return err
	}
	gatewayHandler := gateway.NewHeaders(map[string][]string{
		"Access-Control-Allow-Headers":  {"X-Requested-With"},
		"Access-Control-Allow-Methods":  {"OPTIONS"},
		"Access-Control-Allow-Origin":   {"*"},
		"Access-Control-Expose-Headers": {"X-Stream-Output"},
	}).Wrap(gateway.NewHandler(gateway.Config{
		DeserializedResponses: true,
		DisableHTMLErrors:     true,
		NoDNSLink:             true,
		RetrievalTimeout:      gateway.DefaultRetrievalTimeout,
	}, backend))

	rpcListener, err := net.Listen("tcp", rpcAddress)
	if err != nil {
		return err
	}
	gatewayListener, err := net.Listen("tcp", gatewayAddress)
	if err != nil {
		return err
	}
	rpcServer := &http.Server{Handler: node.rpcHandler()}
	gatewayServer := &http.Server{Handler: gatewayHandler}
	failed := make(chan error, 2)
	go func() { failed <- rpcServer.Serve(rpcListener) }()
	go func() { failed <- gatewayServer.Serve(gatewayListener) }()

	ready, err := json.Marshal(map[string]string{
		"rpc":     rpcListener.Addr().String(),
		"gateway": gatewayListener.Addr().String(),
	})
	if err != nil {
		return err
	}
	fmt.Println(string(ready))

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.Background(), shutdownGrace)
	defer cancel()
	return errors.Join(rpcServer.Shutdown(grace), gatewayServer.Shutdown(grace))
}

func newNode(ctx context.Context) (*node, error) {
	store := dssync.MutexWrap(datastore.NewMapDatastore())
	blocks := blockstore.NewBlockstore(store)
	service := blockservice.New(blocks, offline.Exchange(blocks))
	dag := merkledag.NewDAGService(service)
	pins, err := dspinner.New(ctx, store, dag)
	if err != nil {
		return nil, err
	}
	identity, err := newIdentity()
	if err != nil {
		return nil, err
	}
	return &node{blocks: service, dag: dag, pins: pins, identity: identity}, nil
}
