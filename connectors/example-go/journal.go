package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

const (
	pageMax, pageDefault = 1000, 100
	cancelled            = pb.OperationState_OPERATION_STATE_CANCELLED
)

// journal is the connector's durable memory: a file with one line for each entry, all of which are in memory, too. Its
// first entry names the store. Nothing is ever taken out, as nothing is from the storage; where keys come by the
// million, use a database.
type journal struct {
	mutex   sync.Mutex // held while a call looks up, acts and writes
	file    *os.File
	entries []*entry          // oldest first
	known   map[string]*entry // by stream and key; by stream alone the one with its highest epoch
	storeID string
}

// entry is what is known of a key.
type entry struct {
	Stream, Key, Method, Arguments string
	Epoch                          int64
	State                          pb.OperationState
	At                             time.Time
}

// openJournal reads what a former process wrote, and keeps others out. A last line that broke off was never acted on.
func openJournal(folder string) (*journal, error) {
	path, made := filepath.Join(folder, "journal"), os.MkdirAll(folder, 0o700)
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, cmp.Or(made, err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another process uses %s: %w", path, err)
	}
	j := &journal{file: file, known: map[string]*entry{}}
	decoder, each, end := json.NewDecoder(file), new(entry), int64(0)
	for err = decoder.Decode(each); err == nil; err = decoder.Decode(each) {
		j.remember(each)
		each, end = new(entry), decoder.InputOffset()
	}
	if err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, fmt.Errorf("%s is damaged behind byte %d: %w", path, end, err)
	}
	if err := file.Truncate(end); err != nil {
		return nil, err
	}
	if len(j.entries) == 0 {
		j.write(&entry{Key: uuid.NewString()})
	}
	j.storeID = j.entries[0].Key
	return j, nil
}

// settle carries out a mutating call once: it looks the key up, and if that is new acts and writes the entry. When a
// crash comes before the entry is on disk, the call will be made again: acting twice must do no harm.
func (j *journal) settle(by *pb.MutationContext, made entry, act func() error) (entry, error) {
	j.mutex.Lock()
	defer j.mutex.Unlock()
	made.Stream, made.Key, made.At = scope(by.GetStream()), by.GetIdempotencyKey(), time.Now()
	if epoch, seen := by.GetOwnerEpoch(), cmp.Or(j.known[made.Stream], &entry{}).Epoch; epoch > seen {
		j.write(&entry{Stream: made.Stream, Epoch: epoch})
	} else if epoch > 0 && epoch < seen {
		return entry{}, refused(codes.FailedPrecondition, "STALE_EPOCH", "epoch %d is over: %d was seen", epoch, seen)
	}
	if found := j.known[made.Stream+made.Key]; found != nil {
		return *found, nil
	}
	if err := act(); err != nil {
		return entry{}, err
	}
	j.write(&made)
	return made, nil
}

// write has an entry on disk when it returns. When that fails, nobody knows what is on disk: the process ends, and its
// next start reads what there is.
func (j *journal) write(made *entry) {
	if err := errors.Join(json.NewEncoder(j.file).Encode(made), j.file.Sync()); err != nil {
		log.Fatalf("the journal cannot be written: %v", err)
	}
	j.remember(made)
}

func (j *journal) remember(made *entry) {
	j.known[made.Stream+made.Key] = made
	if made.Key != "" {
		j.entries = append(j.entries, made)
	}
}

// scope tells streams apart, and keys of one from those of another.
func scope(stream *pb.StreamRef) string {
	return fmt.Sprintf("%q %q %q ", stream.GetClusterId(), stream.GetNamespace(), stream.GetConsumer())
}

// GetOperation tells what is known of a key. A call under way has had no effect yet, so its key is unknown.
func (c *connector) GetOperation(_ context.Context, request *pb.GetOperationRequest) (*pb.GetOperationResponse, error) {
	c.journal.mutex.Lock()
	defer c.journal.mutex.Unlock()
	found := c.journal.known[scope(request.GetStream())+request.GetIdempotencyKey()]
	if found == nil || found.Key == "" {
		return nil, refused(codes.NotFound, "UNKNOWN_KEY", "nothing is known of %.300q", request.GetIdempotencyKey())
	}
	return &pb.GetOperationResponse{Operation: found.operation()}, nil
}

// ListOperations lists the operations of a stream, oldest first. A page token is the number of entries passed.
func (c *connector) ListOperations(_ context.Context, request *pb.ListOperationsRequest) (*pb.ListOperationsResponse, error) {
	c.journal.mutex.Lock()
	defer c.journal.mutex.Unlock()
	passed, err := strconv.ParseUint("0"+request.GetPageToken(), 10, 31)
	if err != nil || int(passed) > len(c.journal.entries) {
		return nil, refused(codes.InvalidArgument, "INVALID_TOKEN", "the page token is not one of this connector")
	}
	size := min(cmp.Or(int(request.GetPageSize()), pageDefault), pageMax)
	stream, state, answer := scope(request.GetStream()), request.GetState(), &pb.ListOperationsResponse{}
	for at, each := range c.journal.entries[passed:] {
		fits := each.Stream == stream && (state == 0 || each.State == state)
		if fits && len(answer.Operations) == size {
			answer.NextPageToken = strconv.Itoa(int(passed) + at)
			return answer, nil
		} else if fits {
			answer.Operations = append(answer.Operations, each.operation())
		}
	}
	return answer, nil
}

// Cancel withdraws a key that is unknown: nothing will ever happen under it. A known one stays as it is.
func (c *connector) Cancel(ctx context.Context, request *pb.CancelRequest) (*pb.CancelResponse, error) {
	done, err := c.admit(ctx, request.GetContext())
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := c.journal.settle(request.GetContext(), entry{State: cancelled}, func() error { return nil })
	return &pb.CancelResponse{State: found.State}, err
}

func (e *entry) operation() *pb.Operation {
	at := timestamppb.New(e.At)
	return &pb.Operation{IdempotencyKey: e.Key, Method: e.Method, State: e.State, Created: at, Updated: at}
}
