package rest

import (
	"context"
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"google.golang.org/grpc"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/coded"
	"github.com/photinus-project/photinus/gateway/internal/fireflyjson"
)

const (
	chunkBytes = 256 << 10
	// Longest text of a form field of an upload; `metadata` is the one that can be long.
	formFieldBytesMax = 1 << 20
	formFieldsMax     = 32
)

// upload streams the file of a multipart form to the core, chunk by chunk, as fast as the core takes it. The form's text
// fields come first; the core stores nothing without the stream's last frame.
func (a *API) upload(w http.ResponseWriter, r *http.Request, namespace string) {
	if a.limits.UploadBytesMax > 0 {
		r.Body = http.MaxBytesReader(w, r.Body, a.limits.UploadBytesMax)
	}
	ctx, err := runtime.AnnotateContext(r.Context(), a.mux, r, apiv1.DataService_UploadData_FullMethodName)
	if err != nil {
		a.fail(r.Context(), w, err)
		return
	}
	// The call never outlives the request.
	ctx, abandon := context.WithCancel(ctx)
	defer abandon()
	response, err := a.uploadForm(ctx, r, namespace)
	if err != nil {
		a.fail(r.Context(), w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(append(fireflyjson.Encode(response), '\n'))
}

func (a *API) uploadForm(ctx context.Context, r *http.Request, namespace string) (*apiv1.UploadDataResponse, error) {
	form, err := r.MultipartReader()
	if err != nil {
		return nil, coded.New(coded.MultipartInput, err.Error())
	}
	header, file, err := readFields(form, namespace)
	if err != nil {
		return nil, err
	}
	stream, err := a.data.UploadData(ctx)
	if err != nil {
		return nil, err
	}
	first := &apiv1.UploadDataRequest{Frame: &apiv1.UploadDataRequest_Header{Header: header}}
	if err := stream.Send(first); err != nil {
		return nil, answerOf(stream, err)
	}
	size, err := a.sendFile(stream, file)
	if err != nil {
		return nil, err
	}
	if err := checkEnd(form); err != nil {
		return nil, err
	}
	end := &apiv1.UploadDataRequest_End{End: &apiv1.UploadEnd{Size: size}}
	if err := stream.Send(&apiv1.UploadDataRequest{Frame: end}); err != nil {
		return nil, answerOf(stream, err)
	}
	return stream.CloseAndRecv()
}

// readFields reads the form up to its file.
func readFields(form *multipart.Reader, namespace string) (*apiv1.UploadHeader, *multipart.Part, error) {
	header := &apiv1.UploadHeader{Namespace: namespace}
	for range formFieldsMax {
		part, err := form.NextPart()
		if err != nil {
			return nil, nil, coded.New(coded.MultipartInput, describe(err))
		}
		if part.FileName() != "" {
			header.Filename = readable(part.FileName())
			header.ContentType = readable(part.Header.Get("Content-Type"))
			return header, part, nil
		}
		text, err := io.ReadAll(io.LimitReader(part, formFieldBytesMax+1))
		if err != nil {
			return nil, nil, coded.New(coded.MultipartInput, describe(err))
		}
		if len(text) > formFieldBytesMax {
			return nil, nil, coded.New(coded.BodyTooLarge, formFieldBytesMax)
		}
		setField(header, part.FormName(), readable(string(text)))
	}
	return nil, nil, coded.New(coded.MultipartInput, "too many form fields")
}

func describe(err error) string {
	if errors.Is(err, io.EOF) {
		return "EOF"
	}
	return err.Error()
}

func setField(header *apiv1.UploadHeader, name, text string) {
	switch name {
	case "autometa":
		header.Autometa = strings.EqualFold(text, "true")
	case "metadata":
		header.Metadata = text
	case "validator":
		header.Validator = text
	case "datatype.name", "datatype.version":
		if header.Datatype == nil {
			header.Datatype = &apiv1.DatatypeRef{}
		}
		if name == "datatype.name" {
			header.Datatype.Name = text
		} else {
			header.Datatype.Version = text
		}
	}
}

type uploadStream = grpc.ClientStreamingClient[apiv1.UploadDataRequest, apiv1.UploadDataResponse]

// sendFile sends all bytes of the file and says how many they are.
func (a *API) sendFile(stream uploadStream, file *multipart.Part) (int64, error) {
	sent := int64(0)
	for {
		// A new buffer for each chunk: Send may keep it after it returns.
		chunk := make([]byte, chunkBytes)
		size, err := io.ReadFull(file, chunk)
		if size > 0 {
			frame := &apiv1.UploadDataRequest_Chunk{Chunk: chunk[:size]}
			if failure := stream.Send(&apiv1.UploadDataRequest{Frame: frame}); failure != nil {
				return sent, answerOf(stream, failure)
			}
			sent += int64(size)
		}
		var tooLarge *http.MaxBytesError
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF) && partEnded(file):
			return sent, nil
		case errors.As(err, &tooLarge):
			return sent, coded.New(coded.BodyTooLarge, a.limits.UploadBytesMax)
		default:
			return sent, coded.New(coded.UploadBroken, sent)
		}
	}
}

// partEnded tells the end of a part, after which reading gives EOF, from a connection that broke, after which it does not.
func partEnded(file *multipart.Part) bool {
	_, err := file.Read(make([]byte, 1))
	return err == io.EOF
}

// answerOf gives the core's reason when it ended the stream, which Send reports as EOF only.
func answerOf(stream uploadStream, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if _, answered := stream.CloseAndRecv(); answered != nil {
		return answered
	}
	return err
}

// checkEnd refuses anything behind the file.
func checkEnd(form *multipart.Reader) error {
	part, err := form.NextPart()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return coded.New(coded.MultipartInput, err.Error())
	}
	return coded.New(coded.FieldAfterFile, part.FormName())
}
