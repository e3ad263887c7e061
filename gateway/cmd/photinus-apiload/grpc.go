package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

// grpcAsker is one connection with one call at a time.
type grpcAsker struct {
	conn *grpc.ClientConn
	call func(ctx context.Context, number int64) error
}

func loadGRPC(asked *options) (*Load, error) {
	return closedLoop(asked, func(int) (asker, error) { return dialGRPC(asked) })
}

func dialGRPC(asked *options) (asker, error) {
	conn, err := grpc.NewClient(asked.target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return nil, err
	}
	call, err := callOf(asked, conn)
	return &grpcAsker{conn: conn, call: call}, err
}

func (g *grpcAsker) close() { _ = g.conn.Close() }

func (g *grpcAsker) ask(number int64) error {
	ctx, cancel := context.WithTimeout(context.Background(), lateTimeout)
	defer cancel()
	return g.call(ctx, number)
}

func callOf(asked *options, conn *grpc.ClientConn) (func(context.Context, int64) error, error) {
	switch asked.call {
	case "status":
		client := apiv1.NewNamespaceServiceClient(conn)
		return func(ctx context.Context, _ int64) error {
			_, err := client.GetStatus(ctx, &apiv1.GetStatusRequest{Namespace: asked.namespace})
			return err
		}, nil
	case "messages":
		client := apiv1.NewMessageServiceClient(conn)
		return func(ctx context.Context, number int64) error {
			raw := strings.ReplaceAll(asked.query, "{n}", strconv.FormatInt(number, 10))
			_, err := client.ListMessages(ctx, &apiv1.ListMessagesRequest{
				Namespace: asked.namespace, Query: &apiv1.Query{Raw: raw},
			})
			return err
		}, nil
	case "data":
		client := apiv1.NewDataServiceClient(conn)
		return func(ctx context.Context, _ int64) error {
			_, err := client.CreateData(ctx, &apiv1.CreateDataRequest{
				Namespace: asked.namespace, Data: &apiv1.DataRefOrValue{Value: asked.body},
			})
			return err
		}, nil
	}
	return nil, fmt.Errorf("call %q is none of status, messages and data", asked.call)
}
