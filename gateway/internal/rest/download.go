package rest

import (
	"log/slog"
	"net/http"
	"strconv"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"

	apiv1 "github.com/photinus-project/photinus/gateway/gen/photinus/api/v1"
	"github.com/photinus-project/photinus/gateway/internal/coded"
)

// download streams a blob, as fast as the client takes it. An error in the middle ends the connection, so that the client
// cannot take a part for the whole.
func (a *API) download(w http.ResponseWriter, r *http.Request, params map[string]string) {
	ctx, err := runtime.AnnotateContext(r.Context(), a.mux, r, apiv1.DataService_DownloadBlob_FullMethodName)
	if err != nil {
		a.fail(r.Context(), w, err)
		return
	}
	request := &apiv1.DownloadBlobRequest{Namespace: params["namespace"], Id: params["id"]}
	stream, err := a.data.DownloadBlob(ctx, request)
	if err != nil {
		a.fail(ctx, w, err)
		return
	}
	first, err := stream.Recv()
	if err != nil {
		a.fail(ctx, w, err)
		return
	}
	info := first.GetInfo()
	if info == nil {
		a.fail(ctx, w, coded.New(coded.CoreUnreachable, "a download that does not begin with its description"))
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(info.GetSize(), 10))
	w.Header().Set("X-FF-Blob-Hash-SHA256", info.GetHash())
	w.Header().Set("X-FF-Blob-Size", strconv.FormatInt(info.GetSize(), 10))
	for sent := int64(0); sent < info.GetSize(); {
		next, err := stream.Recv()
		if err == nil {
			_, err = w.Write(next.GetChunk())
			sent += int64(len(next.GetChunk()))
		}
		if err != nil {
			slog.WarnContext(ctx, "download broke off", "id", request.GetId(), "bytes", sent, "error", err)
			panic(http.ErrAbortHandler)
		}
	}
}
