package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"google.golang.org/grpc/codes"

	pb "github.com/photinus-project/photinus/connectors/example-go/gen/photinus/connector/v1"
)

const (
	chunkMax   = 1 << 20   // bytes in a frame that we take; the protocol's limit
	chunkBytes = 256 << 10 // ... in one that we send
)

// A reference is the SHA-256 of the bytes, in hex. It becomes the name of a file, so it has no other form than this.
var referenceForm = regexp.MustCompile(`^[0-9a-f]{64}$`)

// parseSettings reads a configuration, as settings.schema.json describes it to the core: the directory. A finding names
// the setting that is wrong, and never quotes its value: it may be a secret that was put in the wrong place.
func parseSettings(text string) (directory string, wrong []*pb.Diagnostic) {
	var found map[string]any
	err := json.Unmarshal([]byte(text), &found)
	directory, _ = found["directory"].(string)
	delete(found, "directory")
	switch {
	case err != nil:
		return "", finding("", "the settings must be one JSON object")
	case len(found) > 0:
		return "", finding("", "there is an unknown setting; the only one is directory")
	case directory == "":
		return "", finding("/directory", "directory must name the folder that all members share")
	}
	return directory, nil
}

func finding(pointer, summary string) []*pb.Diagnostic {
	return []*pb.Diagnostic{{Severity: pb.Severity_SEVERITY_ERROR, Summary: summary, Pointer: pointer}}
}

// storage is a directory that connectors of all members share: `objects` holds what was stored, `tmp/<store id>` what one
// of them is writing. Where the latter is not, the directory cannot be used now; it is not made again, as the place of a
// file system that is not mounted must stay empty.
type storage struct{ root, objects, tmp string }

// openStorage makes the folders, and throws away what a former process did not bring to an end.
func openStorage(root, storeID string) (storage, error) {
	s := storage{root, filepath.Join(root, "objects"), filepath.Join(root, "tmp", storeID)}
	return s, errors.Join(os.RemoveAll(s.tmp), os.MkdirAll(s.tmp, 0o755), os.MkdirAll(s.objects, 0o755))
}

// keep gives a file that is on disk its final name, durably. To do so twice does no harm.
func (s storage) keep(path, reference string) error {
	renamed := os.Rename(path, filepath.Join(s.objects, reference))
	folder, err := os.Open(s.objects)
	return errors.Join(renamed, err, folder.Sync(), folder.Close())
}

// Upload stores what comes. An upload that breaks off leaves neither a file nor a key.
func (c *connector) Upload(stream pb.SharedStorageService_UploadServer) error {
	first, err := stream.Recv()
	if err != nil && err != io.EOF {
		return err
	} else if first.GetHeader() == nil {
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
		return err
	}
	defer os.Remove(file.Name())
	reference, size, err := receive(stream, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return err
	}
	made := entry{Method: "Upload", Arguments: reference, State: pb.OperationState_OPERATION_STATE_SUCCEEDED}
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
func receive(stream pb.SharedStorageService_UploadServer, file *os.File) (reference string, size uint64, err error) {
	hash := sha256.New()
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
		case size > description.GetContracts()[0].GetLimits().GetMaxMessageBytes():
			return "", 0, refused(codes.InvalidArgument, "PAYLOAD_TOO_LARGE", "%d bytes are too many", size)
		case end != nil:
			return hex.EncodeToString(hash.Sum(nil)), size, errors.Join(file.Chmod(0o644), file.Sync())
		}
		if _, err := io.MultiWriter(file, hash).Write(chunk); err != nil {
			return "", 0, err
		}
	}
}

// Download checks what was stored, and sends it: nobody receives anything of what was changed.
func (c *connector) Download(request *pb.DownloadRequest, stream pb.SharedStorageService_DownloadServer) error {
	reference, skip, limit := request.GetPayloadRef(), request.GetOffset(), request.GetMaxBytes()
	if !referenceForm.MatchString(reference) {
		return refused(codes.InvalidArgument, "INVALID_PAYLOAD_REF", "%q is no SHA-256 in hex", reference)
	}
	file, err := os.Open(filepath.Join(c.storage.objects, reference))
	if _, missing := os.Stat(c.storage.tmp); errors.Is(err, fs.ErrNotExist) && missing == nil {
		return refused(codes.NotFound, "UNKNOWN_PAYLOAD", "nobody has stored %s", reference)
	} else if err != nil {
		return err
	}
	defer file.Close()
	hash := sha256.New()
	read, err := io.Copy(hash, file)
	size := uint64(read)
	switch {
	case err != nil:
		return err
	case hex.EncodeToString(hash.Sum(nil)) != reference:
		return refused(codes.DataLoss, "HASH_MISMATCH", "the bytes of %s were changed", reference)
	case limit > 0 && size > limit:
		return refused(codes.FailedPrecondition, "PAYLOAD_TOO_LARGE", "%d bytes are more than %d", size, limit)
	case skip > size:
		return refused(codes.InvalidArgument, "INVALID_OFFSET", "offset %d of %d bytes", skip, size)
	}
	for chunk := make([]byte, chunkBytes); skip < size; {
		n, err := file.ReadAt(chunk, int64(skip))
		if n == 0 {
			return err
		}
		if err := stream.Send(&pb.DownloadResponse{Chunk: chunk[:n]}); err != nil {
			return err
		}
		skip += uint64(n)
	}
	return nil
}
