package server

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"net/textproto"
	"runtime"
	runtimemetrics "runtime/metrics"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
)

const blobBytes = 96 << 20

// received is what the fake core was uploaded.
type received struct {
	header *apiv1.UploadHeader
	hash   string
	bytes  int
	chunks int
	err    error
}

// takeUploads has the core take uploads and report each; before is called ahead of each chunk.
func (g *gateway) takeUploads(before func(chunks int) error) chan received {
	reports := make(chan received, 1)
	g.core.mutex.Lock()
	defer g.core.mutex.Unlock()
	g.core.streams[apiv1.DataService_UploadData_FullMethodName] = func(stream grpc.ServerStream) error {
		report, err := takeUpload(stream, before)
		reports <- report
		return err
	}
	return reports
}

func takeUpload(stream grpc.ServerStream, before func(chunks int) error) (received, error) {
	report, digest := received{}, sha256.New()
	for {
		frame := &apiv1.UploadDataRequest{}
		if err := stream.RecvMsg(frame); err != nil {
			report.err = err
			return report, err
		}
		if end := frame.GetEnd(); end != nil {
			if end.GetSize() != int64(report.bytes) {
				report.err = fmt.Errorf("the end speaks of %d bytes", end.GetSize())
			}
			report.hash = hex.EncodeToString(digest.Sum(nil))
			return report, stream.SendMsg(&apiv1.UploadDataResponse{Data: &apiv1.Data{Id: "d1", Hash: report.hash}})
		}
		if header := frame.GetHeader(); header != nil {
			report.header = header
			continue
		}
		if before != nil {
			if err := before(report.chunks); err != nil {
				report.err = err
				return report, err
			}
		}
		digest.Write(frame.GetChunk())
		report.bytes += len(frame.GetChunk())
		report.chunks++
	}
}

func form(t *testing.T, parts ...[3]string) (string, *bytes.Buffer) {
	t.Helper()
	var body bytes.Buffer
	writer := multipart.NewWriter(&body)
	for _, part := range parts {
		header := textproto.MIMEHeader{}
		header.Set("Content-Disposition", fmt.Sprintf("form-data; name=%q", part[0]))
		if part[2] != "" {
			header.Set("Content-Disposition", fmt.Sprintf("form-data; name=%q; filename=%q", part[0], part[2]))
			header.Set("Content-Type", "text/plain")
		}
		inner, err := writer.CreatePart(header)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := inner.Write([]byte(part[1])); err != nil {
			t.Fatal(err)
		}
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return writer.FormDataContentType(), &body
}

func TestUpload(t *testing.T) {
	gateway := newGateway(t)
	reports := gateway.takeUploads(nil)
	media, body := form(t,
		[3]string{"autometa", "true"}, [3]string{"metadata", `{"a":1}`}, [3]string{"validator", "json"},
		[3]string{"datatype.name", "dt"}, [3]string{"datatype.version", "1"}, [3]string{"ignored", "x"},
		[3]string{"file", "content", "a b.txt"})
	response, text := gateway.do(t, "POST", "/api/v1/namespaces/n/data", body.String(), "Content-Type", media)
	report := <-reports
	want := &apiv1.UploadHeader{
		Namespace: "n", Metadata: `{"a":1}`, Autometa: true, Validator: "json",
		Datatype: &apiv1.DatatypeRef{Name: "dt", Version: "1"}, Filename: "a b.txt", ContentType: "text/plain",
	}
	if !proto.Equal(report.header, want) || report.bytes != len("content") {
		t.Errorf("the core got %v, %d bytes", report.header, report.bytes)
	}
	if response.StatusCode != 201 || text != fmt.Sprintf("{\"id\":\"d1\",\"validator\":\"\",\"hash\":%q,\"value\":null}\n", report.hash) {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// TestUploadOfFieldsThatAreNoText replaces what is no UTF-8, as in bodies: protobuf refuses it.
func TestUploadOfFieldsThatAreNoText(t *testing.T) {
	gateway := newGateway(t)
	reports := gateway.takeUploads(nil)
	media, body := form(t, [3]string{"metadata", "a\xff"}, [3]string{"file", "content", "b.txt"})
	response, text := gateway.do(t, "POST", "/api/v1/data", body.String(), "Content-Type", media)
	if report := <-reports; report.header.Metadata != "a\uFFFD" {
		t.Errorf("the core got %v", report.header)
	}
	if response.StatusCode != 201 {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

func TestUploadErrors(t *testing.T) {
	gateway := newGateway(t)
	file := [3]string{"file", "content", "a.txt"}
	cases := []struct {
		name   string
		parts  [][3]string
		cut    int // bytes left off at the end
		before func(int) error
		code   int
		text   string
	}{
		{"field after file", [][3]string{file, {"autometa", "true"}}, 0, nil, 400, "FF00163: Additional form field sent after file in multi-part form (ignored): 'autometa'"},
		{"no file", [][3]string{{"autometa", "true"}}, 0, nil, 400, "FF00161: Error reading multi-part form input: EOF"},
		{"cut off in the file", [][3]string{file}, 70, nil, 400, "FF19007: The upload broke off after 5 bytes; nothing was stored"},
		{"refused by the core", [][3]string{file}, 0, func(int) error { return coreError(400, "FF10414: not here") }, 400, "FF10414: not here"},
		{"field too long", [][3]string{{"metadata", strings.Repeat("x", 1<<20+1)}, file}, 0, nil, 413, "FF19004: The request body is larger than 1,048,576 bytes"},
	}
	for _, each := range cases {
		t.Run(each.name, func(t *testing.T) {
			reports := gateway.takeUploads(each.before)
			media, body := form(t, each.parts...)
			text := body.String()
			gateway.expect(t, "POST", "/api/v1/data", text[:len(text)-each.cut], each.code, errorBody(each.text), "Content-Type", media)
			select {
			case report := <-reports:
				if report.err == nil {
					t.Error("the core thinks that the upload is complete")
				}
			case <-time.After(100 * time.Millisecond): // it may never have been asked
			}
		})
	}
}

// TestUploadThatBreaksOff cuts the connection of a client in the middle of its file: the core must see the call fail.
func TestUploadThatBreaksOff(t *testing.T) {
	gateway := newGateway(t)
	halfway := make(chan struct{})
	reports := gateway.takeUploads(func(chunks int) error {
		if chunks == 1 {
			close(halfway)
		}
		return nil
	})
	conn, err := net.Dial("tcp", strings.TrimPrefix(gateway.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	part := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n" + strings.Repeat("x", 1<<20)
	_, err = fmt.Fprintf(conn, "POST /api/v1/data HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\nContent-Length: 99999999\r\n\r\n%s", part)
	if err != nil {
		t.Fatal(err)
	}
	<-halfway
	_ = conn.Close()
	select {
	case report := <-reports:
		if report.err == nil {
			t.Error("the core thinks that the upload is complete")
		}
	case <-time.After(10 * time.Second):
		t.Error("the core was not told")
	}
}

// TestLargeBlobsAreStreamed sends a large file both ways and looks at the memory: neither way may hold it.
func TestLargeBlobsAreStreamed(t *testing.T) {
	gateway := newGateway(t)
	sampler := &heapSampler{}
	reports := gateway.takeUploads(func(int) error {
		sampler.sample()
		return nil
	})
	head := "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"f\"\r\n\r\n"
	body := io.MultiReader(strings.NewReader(head), io.LimitReader(zeros{}, blobBytes), strings.NewReader("\r\n--b--\r\n"))
	runtime.GC()
	sampler.sample()
	before := sampler.most
	response, err := http.Post(gateway.url+"/api/v1/data", "multipart/form-data; boundary=b", body)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	report := <-reports
	if response.StatusCode != 201 || report.bytes != blobBytes || report.chunks < blobBytes/(256<<10) {
		t.Error(response.StatusCode, report.bytes, report.chunks)
	}
	gateway.giveBlob(report.hash, blobBytes, blobBytes)
	response, err = http.Get(gateway.url + "/api/v1/data/d1/blob")
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(digest, sampler), response.Body)
	_ = response.Body.Close()
	if err != nil || size != blobBytes || hex.EncodeToString(digest.Sum(nil)) != report.hash {
		t.Error(size, err)
	}
	header := response.Header
	if header.Get("x-ff-blob-hash-sha256") != report.hash || header.Get("x-ff-blob-size") != fmt.Sprint(blobBytes) ||
		header.Get("Content-Type") != "application/octet-stream" {
		t.Error(header)
	}
	if grown := sampler.most - before; grown > blobBytes/2 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

func TestDownloadErrors(t *testing.T) {
	gateway := newGateway(t)
	gateway.core.mutex.Lock()
	gateway.core.streams[apiv1.DataService_DownloadBlob_FullMethodName] = func(grpc.ServerStream) error {
		return coreError(404, "FF00164: No result found")
	}
	gateway.core.mutex.Unlock()
	gateway.expect(t, "GET", "/api/v1/data/d1/blob", "", 404, errorBody("FF00164: No result found"))
	gateway.giveBlob("h", 1<<20, 1<<19)
	response, err := http.Get(gateway.url + "/api/v1/namespaces/n/data/d1/blob")
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, response.Body)
	_ = response.Body.Close()
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("a blob that broke off looks complete:", err)
	}
	gateway.giveBlob("e3b0", 0, 0)
	gateway.expect(t, "GET", "/api/v1/data/empty/blob", "", 200, "")
}

// giveBlob has the core announce a blob of zeros and send so many bytes of it; then it fails, if they are too few.
func (g *gateway) giveBlob(hash string, announced, sent int) {
	g.core.mutex.Lock()
	defer g.core.mutex.Unlock()
	g.core.streams[apiv1.DataService_DownloadBlob_FullMethodName] = func(stream grpc.ServerStream) error {
		if err := stream.RecvMsg(&apiv1.DownloadBlobRequest{}); err != nil {
			return err
		}
		info := &apiv1.BlobInfo{Hash: hash, Size: int64(announced)}
		err := stream.SendMsg(&apiv1.DownloadBlobResponse{Frame: &apiv1.DownloadBlobResponse_Info{Info: info}})
		chunk := make([]byte, 256<<10)
		for left := sent; err == nil && left > 0; left -= len(chunk) {
			chunk = chunk[:min(left, len(chunk))]
			err = stream.SendMsg(&apiv1.DownloadBlobResponse{Frame: &apiv1.DownloadBlobResponse_Chunk{Chunk: chunk}})
		}
		if err == nil && sent < announced {
			err = coreError(500, "FF19000: gone")
		}
		return err
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// heapSampler notes the most memory that the last collection before a moment found in use; how much garbage there is beside
// it is the collector's to decide.
type heapSampler struct{ most int64 }

func (h *heapSampler) sample() {
	live := []runtimemetrics.Sample{{Name: "/gc/heap/live:bytes"}}
	runtimemetrics.Read(live)
	h.most = max(h.most, int64(live[0].Value.Uint64()))
}

func (h *heapSampler) Write(p []byte) (int, error) {
	h.sample()
	return len(p), nil
}
