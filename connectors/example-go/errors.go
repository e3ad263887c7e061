package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

const (
	domain     = "photinus.connector.v1"
	textMax    = 1024 // bytes; the protocol allows 2 KiB for a message, and 4 KiB with details
	retryAfter = time.Second
	notSent    = pb.Disposition_DISPOSITION_NOT_SENT
	maybeSent  = pb.Disposition_DISPOSITION_MAYBE_SENT
)

// refused is the error of a call that had no effect and never will have one.
func refused(code codes.Code, reason, format string, arguments ...any) error {
	return failure(code, reason, notSent, fmt.Sprintf(format, arguments...))
}

// unavailable is the error of a call that had no effect and may be made again, with the same key.
func unavailable(reason, message string) error {
	return failure(codes.Unavailable, reason, notSent, message, &errdetails.RetryInfo{RetryDelay: durationpb.New(retryAfter)})
}

// away tells the core that the storage does not work now; nil when it does.
func away(err error) error {
	if err == nil {
		return nil
	}
	return unavailable("STORAGE_DOWN", "the directory cannot be used: "+err.Error())
}

// explained gives details to the errors that have none: those of gRPC itself, of a caller that gave up say, and those
// that nobody expected. The latter are defects: they are logged, and the core will ask GetOperation.
func explained(method string, err error) error {
	found, isStatus := status.FromError(err)
	switch {
	case err == nil || isStatus && len(found.Details()) > 0:
		return err
	case isStatus:
		return failure(found.Code(), "CALL_ENDED", maybeSent, found.Message())
	}
	slog.Error("unexpected error", "method", method, "error", err.Error())
	return failure(codes.Internal, "UNEXPECTED", maybeSent, "unexpected error in "+method+"; see the connector's log")
}

// failure makes a status with the details that the core decides by.
func failure(code codes.Code, reason string, sent pb.Disposition, message string, more ...protoadapt.MessageV1) error {
	more = append(more, &errdetails.ErrorInfo{Domain: domain, Reason: reason}, &pb.SubmissionDetail{Disposition: sent})
	described, err := status.New(code, shortened(message)).WithDetails(more...)
	if err != nil {
		panic(err) // a mistake of ours: the code is OK
	}
	return described.Err()
}

func shortened(text string) string {
	return strings.ToValidUTF8(text[:min(len(text), textMax)], "")
}
