package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

// The rules of the protocol are connector-sanity's to check; here is what it cannot reach: files that were damaged or
// taken away, a journal that broke off, two processes on one place.

// fixture is a connector that is served, configured as `mine`, and dialled.
type fixture struct {
	*testing.T
	connector      *connector
	connection     *grpc.ClientConn
	dataDir, share string
}

func start(t *testing.T) *fixture {
	f := &fixture{T: t, dataDir: t.TempDir(), share: filepath.Join(t.TempDir(), "shared")}
	f.serve()
	f.configure()
	return f
}

func (f *fixture) serve() {
	f.Helper()
	journal, err := openJournal(f.dataDir)
	f.must(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	f.must(err)
	f.connector = newConnector(journal)
	server := f.connector.server
	go func() { _ = server.Serve(listener) }()
	f.connection, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	f.must(err)
	f.Cleanup(server.Stop)
	f.Cleanup(func() { _ = journal.file.Close() })
}

// restart ends the connector without any warning and starts another one on the same data.
func (f *fixture) restart() {
	f.Helper()
	f.connector.server.Stop()
	f.must(f.connector.journal.file.Close())
	f.serve()
	f.configure()
}

func (f *fixture) configure() *pb.ConfigureResponse {
	f.Helper()
	answer, err := pb.NewConnectorServiceClient(f.connection).Configure(f.Context(), f.settings())
	f.must(err)
	return answer
}

func (f *fixture) settings() *pb.ConfigureRequest {
	return &pb.ConfigureRequest{Instance: "mine", ConfigJson: `{"directory":"` + f.share + `"}`, Revision: 1}
}

func (f *fixture) context() context.Context {
	ctx, cancel := context.WithTimeout(f.Context(), time.Minute)
	f.Cleanup(cancel)
	return metadata.AppendToOutgoingContext(ctx, "x-connector-instance", "mine")
}

func (f *fixture) upload(key string, epoch int64, content []byte) (string, error) {
	f.Helper()
	stream, err := pb.NewSharedStorageServiceClient(f.connection).Upload(f.context())
	f.must(err)
	header := &pb.UploadHeader{Context: mutation(key, epoch)}
	frames := []*pb.UploadRequest{{Frame: &pb.UploadRequest_Header{Header: header}}}
	for at := 0; at < len(content); at += chunkMax {
		chunk := content[at:min(at+chunkMax, len(content))]
		frames = append(frames, &pb.UploadRequest{Frame: &pb.UploadRequest_Chunk{Chunk: chunk}})
	}
	end := &pb.UploadEnd{Size: uint64(len(content))}
	frames = append(frames, &pb.UploadRequest{Frame: &pb.UploadRequest_End{End: end}})
	for _, frame := range frames {
		if stream.Send(frame) != nil {
			break // the reason comes below
		}
	}
	answer, err := stream.CloseAndRecv()
	return answer.GetPayloadRef(), err
}

func (f *fixture) download(request *pb.DownloadRequest) (content []byte, err error) {
	f.Helper()
	stream, err := pb.NewSharedStorageServiceClient(f.connection).Download(f.context(), request)
	f.must(err)
	for {
		frame, err := stream.Recv()
		if err == io.EOF {
			return content, nil
		} else if err != nil {
			return content, err
		}
		content = append(content, frame.GetChunk()...)
	}
}

func (f *fixture) must(err error) {
	f.Helper()
	if err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) refused(err error, code codes.Code, reason string) {
	f.Helper()
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && status.Code(err) == code && info.GetReason() == reason {
			return
		}
	}
	f.Fatalf("not refused with %s / %s, but: %v", code, reason, err)
}

func mutation(key string, epoch int64) *pb.MutationContext {
	stream := &pb.StreamRef{ClusterId: "c", Namespace: "n", Consumer: "core"}
	return &pb.MutationContext{IdempotencyKey: key, Stream: stream, OwnerEpoch: epoch}
}

func TestDamagedBytesAreNeverSentWhole(t *testing.T) {
	f := start(t)
	content := bytes.Repeat([]byte("0123456789abcdef"), chunkBytes/4) // four chunks
	reference, err := f.upload("k", 0, content)
	f.must(err)
	received, err := f.download(&pb.DownloadRequest{PayloadRef: reference, Offset: 100})
	f.must(err)
	if !bytes.Equal(received, content[100:]) {
		t.Fatal("other bytes came back")
	}
	path := filepath.Join(f.share, "objects", reference)
	for _, at := range []int{0, len(content) - 1} {
		changed := bytes.Clone(content)
		changed[at] ^= 1
		f.must(os.WriteFile(path, changed, 0o644))
		received, err = f.download(&pb.DownloadRequest{PayloadRef: reference})
		f.refused(err, codes.DataLoss, "HASH_MISMATCH")
		if len(received) == len(content) {
			t.Fatal("all of it was sent")
		}
	}
	// Storing it again repairs it.
	_, err = f.upload("k2", 0, content)
	f.must(err)
	_, err = f.download(&pb.DownloadRequest{PayloadRef: reference})
	f.must(err)
}

func TestKeysEpochsAndStoreOutliveTheProcess(t *testing.T) {
	f := start(t)
	store := f.configure().GetStoreId()
	first, err := f.upload("k", 7, []byte("first"))
	f.must(err)
	operations := pb.NewOperationServiceClient(f.connection)
	cancelled, err := operations.Cancel(f.context(), &pb.CancelRequest{Context: mutation("never", 7)})
	f.must(err)
	if cancelled.GetState() != pb.OperationState_OPERATION_STATE_CANCELLED {
		t.Fatal(cancelled)
	}
	// The line of a call that had no answer yet, broken off by the end of the process.
	_, err = f.connector.journal.file.WriteString(`{"Stream":"\"c\" \"n\" \"core\" ","Key":"brok`)
	f.must(err)
	f.restart()
	if again := f.configure().GetStoreId(); again != store {
		t.Fatalf("the store was %s and is %s", store, again)
	}
	again, err := f.upload("k", 7, []byte("first"))
	f.must(err)
	if again != first {
		t.Fatal("another answer")
	}
	_, err = f.upload("k", 7, []byte("second"))
	f.refused(err, codes.AlreadyExists, "KEY_REUSED")
	_, err = f.upload("new", 6, []byte("first"))
	f.refused(err, codes.FailedPrecondition, "STALE_EPOCH")
	_, err = f.upload("never", 7, []byte("first"))
	f.refused(err, codes.FailedPrecondition, "CANCELLED")
	operations = pb.NewOperationServiceClient(f.connection)
	var keys []string
	for token := ""; ; {
		request := &pb.ListOperationsRequest{Stream: mutation("", 0).GetStream(), PageSize: 1, PageToken: token}
		page, err := operations.ListOperations(f.context(), request)
		f.must(err)
		for _, each := range page.GetOperations() {
			keys = append(keys, each.GetIdempotencyKey())
		}
		if token = page.GetNextPageToken(); token == "" {
			break
		}
	}
	if strings.Join(keys, " ") != "k never" {
		t.Fatalf("the operations are %q", keys)
	}
}

func TestWhatIsLeftInTmpIsThrownAway(t *testing.T) {
	f := start(t)
	own := filepath.Join(f.connector.storage.tmp, "upload-1")
	others := filepath.Join(f.share, "tmp", "another-store", "upload-1")
	f.must(os.MkdirAll(filepath.Dir(others), 0o755))
	f.must(os.WriteFile(own, nil, 0o644))
	f.must(os.WriteFile(others, nil, 0o644))
	f.restart()
	if _, err := os.Stat(own); err == nil {
		t.Fatal("our own is still there")
	}
	_, err := os.Stat(others)
	f.must(err)
}

func TestAMissingDirectoryDegradesAndIsNotUnknownPayload(t *testing.T) {
	f := start(t)
	watch, err := pb.NewConnectorServiceClient(f.connection).WatchStatus(f.context(), &pb.WatchStatusRequest{})
	f.must(err)
	expect := func(wanted pb.RuntimeState) {
		t.Helper()
		found, err := watch.Recv()
		f.must(err)
		if found.GetState() != wanted {
			t.Fatalf("the state is %s", found)
		}
	}
	expect(pb.RuntimeState_RUNTIME_STATE_OK)
	f.must(os.Rename(f.share, f.share+".away"))
	expect(pb.RuntimeState_RUNTIME_STATE_DEGRADED)
	_, err = f.download(&pb.DownloadRequest{PayloadRef: hex.EncodeToString(make([]byte, sha256.Size))})
	f.refused(err, codes.Unavailable, "STORAGE_DOWN")
	_, err = f.upload("k", 0, []byte("content"))
	f.refused(err, codes.Unavailable, "STORAGE_DOWN")
	f.must(os.Rename(f.share+".away", f.share))
	expect(pb.RuntimeState_RUNTIME_STATE_OK)
	_, err = f.upload("k", 0, []byte("content"))
	f.must(err)
	_, err = pb.NewConnectorServiceClient(f.connection).Drain(f.context(), &pb.DrainRequest{})
	f.must(err)
	expect(pb.RuntimeState_RUNTIME_STATE_STOPPING)
}

func TestDrainWaitsForAnUploadUnderWayAndConfigureEndsIt(t *testing.T) {
	f := start(t)
	stream, err := pb.NewSharedStorageServiceClient(f.connection).Upload(f.context())
	f.must(err)
	header := &pb.UploadRequest_Header{Header: &pb.UploadHeader{Context: mutation("k", 0)}}
	f.must(stream.Send(&pb.UploadRequest{Frame: header}))
	for begun := []os.DirEntry(nil); len(begun) == 0; time.Sleep(time.Millisecond) { // until the upload was let in
		begun, err = os.ReadDir(f.connector.storage.tmp)
		f.must(err)
	}
	drained := make(chan error, 1)
	go func() {
		_, err := pb.NewConnectorServiceClient(f.connection).Drain(f.context(), &pb.DrainRequest{})
		drained <- err
	}()
	for f.connector.gate.TryRLock() { // until Drain waits for it
		f.connector.gate.RUnlock()
		time.Sleep(time.Millisecond)
	}
	_, err = f.upload("late", 0, []byte("late"))
	f.refused(err, codes.Unavailable, "DRAINING")
	select {
	case <-drained:
		t.Fatal("Drain did not wait")
	default:
	}
	f.must(stream.Send(&pb.UploadRequest{Frame: &pb.UploadRequest_End{End: &pb.UploadEnd{}}}))
	_, err = stream.CloseAndRecv()
	f.must(err)
	f.must(<-drained)
	_, err = f.upload("late", 0, []byte("late"))
	f.refused(err, codes.Unavailable, "DRAINING")
	f.configure() // a core that comes back
	_, err = f.upload("late", 0, []byte("late"))
	f.must(err)
}

func TestASecondProcessAndADamagedJournalAreRefused(t *testing.T) {
	f := start(t)
	if _, err := openJournal(f.dataDir); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a second process: %v", err)
	}
	folder := t.TempDir()
	f.must(os.WriteFile(filepath.Join(folder, "journal"), []byte("{\"Key\":\"a\"}\nnonsense\n{\"Key\":\"b\"}\n"), 0o600))
	if _, err := openJournal(folder); err == nil || !strings.Contains(err.Error(), "damaged behind byte 11") {
		t.Fatalf("a damaged journal: %v", err)
	}
}

func TestSettingsInUseStayWhenOthersAreRefused(t *testing.T) {
	f := start(t)
	client := pb.NewConnectorServiceClient(f.connection)
	other := f.settings()
	other.ConfigJson = `{"directory":"` + t.TempDir() + `"}`
	_, err := client.Configure(f.context(), other)
	f.refused(err, codes.FailedPrecondition, "RESTART_REQUIRED")
	f.must(func() error { _, err := client.Configure(f.context(), f.settings()); return err }())
}

func TestSettings(t *testing.T) {
	for text, pointer := range map[string]string{
		`{"directory":7}`: "/directory", `{"directory":""}`: "/directory", `{}`: "/directory", `null`: "/directory",
		`{"directory":"a","more":1}`: "", `[]`: "", `{`: "", ``: "", `{"directory":"a"} {}`: "",
	} {
		if _, wrong := parseSettings(text); len(wrong) != 1 || wrong[0].GetPointer() != pointer {
			t.Errorf("%s: %v", text, wrong)
		}
	}
	if found, wrong := parseSettings(`{"directory":"a"}`); wrong != nil || found != "a" {
		t.Errorf("%v %v", found, wrong)
	}
}

func TestSockets(t *testing.T) {
	folder, err := os.MkdirTemp("", "go-") // t.TempDir is too long for a socket, and open to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	path := filepath.Join(folder, "c.sock")
	first, err := listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Fatalf("a socket in use: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as kill -9 leaves it
	_ = first.Close()
	again, err := listen(path)
	if err != nil {
		t.Fatalf("a socket that was left: %v", err)
	}
	_ = again.Close()
	if _, err := listen(filepath.Join(folder, strings.Repeat("x", socketPathMax))); err == nil {
		t.Fatal("a path that is too long is taken")
	}
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(path); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Fatalf("a directory open to others: %v", err)
	}
}
