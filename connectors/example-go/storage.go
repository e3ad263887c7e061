package main

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

const (
	chunkMax   = 1 << 20   // bytes in a frame that we take; the protocol's limit
	chunkBytes = 256 << 10 // ... in one that we send
)

// A reference is the SHA-256 of the bytes, in hex. It becomes the name of a file, so it has no other form than this.
var referenceForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

type (
	uploadStream   = grpc.ClientStreamingServer[pb.UploadRequest, pb.UploadResponse]
	downloadStream = grpc.ServerStreamingServer[pb.DownloadResponse]
)

// storage is a directory that connectors of all members share: `objects` holds what was stored, `tmp/<store id>` what one
// of them is writing.
type storage struct{ root, objects, tmp string }

// openStorage makes the folders, and throws away what a former process did not bring to an end.
func openStorage(root, storeID string) (storage, error) {
	s := storage{root, filepath.Join(root, "objects"), filepath.Join(root, "tmp", storeID)}
	return s, errors.Join(os.RemoveAll(s.tmp), os.MkdirAll(s.tmp, 0o755), os.MkdirAll(s.objects, 0o755))
}

// check says why the directory cannot be used now. It makes no folder: the place of a file system that is not mounted
// must stay empty.
func (s storage) check() error {
	_, err := os.Stat(s.tmp)
	return err
}

// open gives what was stored, unchecked, and its size.
func (s storage) open(reference string) (*os.File, uint64, error) {
	if !referenceForm.MatchString(reference) {
		return nil, 0, refused(codes.InvalidArgument, "INVALID_PAYLOAD_REF", "%q is no SHA-256 in hex", reference)
	}
	file, err := os.Open(filepath.Join(s.objects, reference))
	if errors.Is(err, fs.ErrNotExist) && s.check() == nil {
		return nil, 0, refused(codes.NotFound, "UNKNOWN_PAYLOAD", "nobody has stored %s", reference)
	} else if err != nil {
		return nil, 0, away(err)
	}
	info, err := file.Stat()
	if err != nil {
		return nil, 0, away(errors.Join(err, file.Close()))
	}
	return file, uint64(info.Size()), nil
}

// keep gives a file that is on disk its final name, durably. To do so twice does no harm.
func (s storage) keep(path, reference string) error {
	if err := os.Rename(path, filepath.Join(s.objects, reference)); err != nil {
		return away(err)
	}
	folder, err := os.Open(s.objects)
	if err != nil {
		return away(err)
	}
	return away(errors.Join(folder.Sync(), folder.Close()))
}

// Upload stores what comes. An upload that breaks off leaves neither a file nor a key.
func (c *connector) Upload(stream uploadStream) error {
	first, err := stream.Recv()
	if err != nil && err != io.EOF {
		return err
	}
	if first.GetHeader() == nil {
		return refused(codes.InvalidArgument, "HEADER_MISSING", "the first frame must be the header")
	}
	by := first.GetHeader().GetContext()
	done, err := c.admit(stream.Context(), by)
	if err != nil {
		return err
	}
	defer done()
	file, err := os.CreateTemp(c.storage.tmp, "upload-")
	if err != nil {
		return away(err)
	}
	defer os.Remove(file.Name())
	reference, size, err := receive(stream, file)
	if failed := file.Close(); err != nil || failed != nil {
		return cmp.Or(err, away(failed))
	}
	made := entry{Method: "Upload", Arguments: reference, State: succeeded}
	found, err := c.journal.settle(by, made, func() error { return c.storage.keep(file.Name(), reference) })
	switch {
	case err != nil:
		return err
	case found.State == cancelled:
		return refused(codes.FailedPrecondition, "CANCELLED", "this key was cancelled")
	case found.Method != made.Method || found.Arguments != made.Arguments:
		return refused(codes.AlreadyExists, "KEY_REUSED", "this key was used with other arguments")
	}
	return stream.SendAndClose(&pb.UploadResponse{PayloadRef: reference, Size: size})
}

// receive writes chunks to a file and syncs it, up to the frame that says that all were sent.
func receive(stream uploadStream, file *os.File) (reference string, size uint64, err error) {
	hash := sha256.New()
	both := io.MultiWriter(file, hash)
	for {
		frame, err := stream.Recv()
		if err != nil && err != io.EOF {
			return "", 0, err
		}
		chunk, end := frame.GetChunk(), frame.GetEnd()
		size += uint64(len(chunk))
		switch {
		case err == io.EOF || end != nil && end.GetSize() != size:
			return "", 0, refused(codes.InvalidArgument, "UPLOAD_INCOMPLETE", "the upload broke off after %d bytes", size)
		case frame.GetHeader() != nil:
			return "", 0, refused(codes.InvalidArgument, "UNEXPECTED_HEADER", "only the first frame is a header")
		case len(chunk) > chunkMax:
			return "", 0, refused(codes.InvalidArgument, "CHUNK_SIZE", "a chunk has at most %d bytes", chunkMax)
		case size > limits.GetMaxMessageBytes():
			return "", 0, refused(codes.InvalidArgument, "PAYLOAD_TOO_LARGE", "%d bytes are too many", size)
		case end != nil:
			return hex.EncodeToString(hash.Sum(nil)), size, away(errors.Join(file.Chmod(0o644), file.Sync()))
		}
		if _, err := both.Write(chunk); err != nil {
			return "", 0, away(err)
		}
	}
}

// Download sends what was stored and checks it on the way. The last chunk is held back until the hash has proved right:
// nobody ever receives the whole of something wrong.
func (c *connector) Download(request *pb.DownloadRequest, stream downloadStream) error {
	reference, skip, limit := request.GetPayloadRef(), request.GetOffset(), request.GetMaxBytes()
	file, size, err := c.storage.open(reference)
	if err != nil {
		return err
	}
	defer file.Close()
	switch {
	case limit > 0 && size > limit:
		return refused(codes.FailedPrecondition, "PAYLOAD_TOO_LARGE", "%d bytes are more than %d", size, limit)
	case skip > size:
		return refused(codes.InvalidArgument, "INVALID_OFFSET", "offset %d of %d bytes", skip, size)
	}
	hash := sha256.New()
	source := io.TeeReader(file, hash)
	if _, err := io.CopyN(io.Discard, source, int64(skip)); err != nil {
		return away(err)
	}
	for held := []byte(nil); ; {
		chunk := make([]byte, chunkBytes)
		n, err := io.ReadFull(source, chunk)
		switch {
		case err != nil && err != io.EOF && err != io.ErrUnexpectedEOF:
			return away(err)
		case n == 0 && hex.EncodeToString(hash.Sum(nil)) != reference:
			return refused(codes.DataLoss, "HASH_MISMATCH", "the bytes of %s were changed", reference)
		}
		if len(held) > 0 {
			if err := stream.Send(&pb.DownloadResponse{Chunk: held}); err != nil {
				return err
			}
		}
		if n == 0 {
			return nil
		}
		held = chunk[:n]
	}
}
