package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"runtime"
	"strconv"

	"github.com/ipfs/boxo/blockservice"
	chunk "github.com/ipfs/boxo/chunker"
	"github.com/ipfs/boxo/ipld/unixfs/importer/balanced"
	"github.com/ipfs/boxo/ipld/unixfs/importer/helpers"
	unixfsio "github.com/ipfs/boxo/ipld/unixfs/io"
	"github.com/ipfs/boxo/path"
	pin "github.com/ipfs/boxo/pinning/pinner"
	"github.com/ipfs/go-cid"
	format "github.com/ipfs/go-ipld-format"
	"github.com/multiformats/go-multihash"
)

// What the recorded Kubo says of itself, so that its answers can be compared byte for byte.
const (
	kuboVersion    = "0.44.0-dev"
	kuboRepository = "18"
	linksPerNode   = 174
	storageMax     = 10_000_000_000
)

type node struct {
	blocks   blockservice.BlockService
	dag      format.DAGService
	pins     pin.Pinner
	identity identity
}

type identity struct {
	id        string
	publicKey string
}

// newIdentity makes a throw-away node identity in libp2p's encodings.
func newIdentity() (identity, error) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return identity{}, err
	}
	// A libp2p public key is a protobuf message: field 1 the kind (1 = Ed25519), field 2 the bytes.
	encoded := append([]byte{0x08, 0x01, 0x12, byte(len(public))}, public...)
	hash, err := multihash.Sum(encoded, multihash.IDENTITY, -1)
	if err != nil {
		return identity{}, err
	}
	return identity{id: hash.B58String(), publicKey: base64.StdEncoding.EncodeToString(encoded)}, nil
}

func (n *node) rpcHandler() http.Handler {
	mux := http.NewServeMux()
	for name, command := range map[string]func(http.ResponseWriter, *http.Request) error{
		"add":        n.add,
		"cat":        n.cat,
		"block/get":  n.blockGet,
		"block/stat": n.blockStat,
		"pin/add":    n.pinAdd,
		"pin/rm":     n.pinRemove,
		"pin/ls":     n.pinList,
		"version":    n.version,
		"id":         n.id,
		"repo/stat":  n.repoStat,
	} {
		mux.HandleFunc("/api/v0/"+name, serve(command))
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Origin")
		http.NotFound(w, r)
	})
	return mux
}

// badRequest is answered as 400 with plain text; every other error as 500 with JSON, as Kubo does.
type badRequest string

func (e badRequest) Error() string { return string(e) }

func serve(command func(http.ResponseWriter, *http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Origin")
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "OPTIONS, POST")
			http.Error(w, "405 - Method Not Allowed", http.StatusMethodNotAllowed)
			return
		}
		err := command(w, r)
		var bad badRequest
		switch {
		case err == nil:
		case errors.As(err, &bad):
			http.Error(w, bad.Error(), http.StatusBadRequest)
		default:
			setHeaders(w)
			w.WriteHeader(http.StatusInternalServerError)
			_ = json.NewEncoder(w).Encode(struct {
				Message string
				Code    int
				Type    string
			}{err.Error(), 0, "error"})
		}
	}
}

func setHeaders(w http.ResponseWriter) {
	h := w.Header()
	h.Set("Access-Control-Allow-Headers", "X-Stream-Output, X-Chunked-Output, X-Content-Length")
	h.Set("Access-Control-Expose-Headers", "X-Stream-Output, X-Chunked-Output, X-Content-Length")
	h.Set("Server", "kubo/"+kuboVersion)
	h.Set("Trailer", "X-Stream-Error")
	h.Set("Content-Type", "application/json")
}

func answer(w http.ResponseWriter, body any) error {
	setHeaders(w)
	return json.NewEncoder(w).Encode(body)
}

// argument resolves the path or CID of a request to a CID; only bare roots are served.
func argument(r *http.Request, name string) (cid.Cid, error) {
	text := r.URL.Query().Get("arg")
	if text == "" {
		return cid.Undef, badRequest(fmt.Sprintf("argument %q is required", name))
	}
	parsed, err := path.NewPath(text)
	if err != nil {
		bare, bareErr := path.NewPath("/ipfs/" + text)
		if bareErr != nil {
			return cid.Undef, err
		}
		parsed = bare
	}
	immutable, err := path.NewImmutablePath(parsed)
	if err != nil {
		return cid.Undef, err
	}
	return immutable.RootCid(), nil
}

func (n *node) add(w http.ResponseWriter, r *http.Request) error {
	mediaType, parameters, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || mediaType != "multipart/form-data" {
		return badRequest("file argument 'path' is required")
	}
	query := r.URL.Query()
	builder := cid.Builder(cid.V0Builder{})
	if query.Get("cid-version") == "1" {
		builder = cid.V1Builder{Codec: cid.DagProtobuf, MhType: multihash.SHA2_256}
	}
	rawLeaves := query.Get("raw-leaves") == "true"
	body := multipart.NewReader(r.Body, parameters["boundary"])
	for answered := false; ; answered = true {
		part, err := body.NextPart()
		if errors.Is(err, io.EOF) {
			if !answered {
				return badRequest("file argument 'path' is required")
			}
			return nil
		}
		if err != nil {
			return err
		}
		root, err := n.importFile(part, builder, rawLeaves)
		if err != nil {
			return err
		}
		if query.Get("pin") != "false" {
			if err := n.pins.Pin(r.Context(), root, true, ""); err != nil {
				return err
			}
		}
		name, err := url.QueryUnescape(part.FileName())
		if err != nil {
			return err
		}
		if name == "" {
			name = root.Cid().String()
		}
		size, err := root.Size()
		if err != nil {
			return err
		}
		w.Header().Set("X-Chunked-Output", "1")
		if err := answer(w, struct{ Name, Hash, Size string }{
			name, root.Cid().String(), strconv.FormatUint(size, 10),
		}); err != nil {
			return err
		}
	}
}

func (n *node) importFile(content io.Reader, builder cid.Builder, rawLeaves bool) (format.Node, error) {
	parameters := helpers.DagBuilderParams{
		Maxlinks:   linksPerNode,
		RawLeaves:  rawLeaves,
		CidBuilder: builder,
		Dagserv:    n.dag,
	}
	helper, err := parameters.New(chunk.NewSizeSplitter(content, chunk.DefaultBlockSize))
	if err != nil {
		return nil, err
	}
	return balanced.Layout(helper)
}

func (n *node) cat(w http.ResponseWriter, r *http.Request) error {
	root, err := argument(r, "ipfs-path")
	if err != nil {
		return err
	}
	top, err := n.dag.Get(r.Context(), root)
	if err != nil {
		return err
	}
	reader, err := unixfsio.NewDagReader(r.Context(), top, n.dag)
	if err != nil {
		return err
	}
	defer reader.Close()
	length := int64(reader.Size())
	if text := r.URL.Query().Get("offset"); text != "" {
		offset, err := strconv.ParseInt(text, 10, 64)
		if err != nil || offset < 0 {
			return badRequest("invalid offset")
		}
		if _, err := reader.Seek(min(offset, length), io.SeekStart); err != nil {
			return err
		}
		length -= min(offset, length)
	}
	if text := r.URL.Query().Get("length"); text != "" {
		wanted, err := strconv.ParseInt(text, 10, 64)
		if err != nil || wanted < 0 {
			return badRequest("invalid length")
		}
		length = min(wanted, length)
	}
	setHeaders(w)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Stream-Output", "1")
	w.Header().Set("X-Content-Length", strconv.FormatInt(length, 10))
	if _, err := io.CopyN(w, reader, length); err != nil {
		w.Header().Set("X-Stream-Error", err.Error())
	}
	return nil
}

func (n *node) blockGet(w http.ResponseWriter, r *http.Request) error {
	wanted, err := argument(r, "cid")
	if err != nil {
		return err
	}
	block, err := n.blocks.GetBlock(r.Context(), wanted)
	if err != nil {
		return err
	}
	setHeaders(w)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("X-Stream-Output", "1")
	_, err = w.Write(block.RawData())
	return err
}

func (n *node) blockStat(w http.ResponseWriter, r *http.Request) error {
	wanted, err := argument(r, "cid")
	if err != nil {
		return err
	}
	block, err := n.blocks.GetBlock(r.Context(), wanted)
	if err != nil {
		return err
	}
	return answer(w, struct {
		Key  string
		Size int
	}{wanted.String(), len(block.RawData())})
}

func (n *node) pinAdd(w http.ResponseWriter, r *http.Request) error {
	root, err := argument(r, "ipfs-path")
	if err != nil {
		return err
	}
	top, err := n.dag.Get(r.Context(), root)
	if err != nil {
		return err
	}
	if err := n.pins.Pin(r.Context(), top, true, ""); err != nil {
		return err
	}
	return answer(w, map[string][]string{"Pins": {root.String()}})
}

func (n *node) pinRemove(w http.ResponseWriter, r *http.Request) error {
	root, err := argument(r, "ipfs-path")
	if err != nil {
		return err
	}
	if err := n.pins.Unpin(r.Context(), root, true); err != nil {
		return err
	}
	return answer(w, map[string][]string{"Pins": {root.String()}})
}

func (n *node) pinList(w http.ResponseWriter, r *http.Request) error {
	root, err := argument(r, "ipfs-path")
	if err != nil {
		return err
	}
	kind, pinned, err := n.pins.IsPinned(r.Context(), root)
	if err != nil {
		return err
	}
	if !pinned {
		return fmt.Errorf("path '%s' is not pinned", root)
	}
	type entry struct{ Type, Name string }
	return answer(w, map[string]map[string]entry{"Keys": {root.String(): {Type: kind}}})
}

func (n *node) version(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, struct{ Version, Commit, Repo, System, Golang string }{
		kuboVersion, "", kuboRepository, runtime.GOARCH + "/" + runtime.GOOS, runtime.Version(),
	})
}

func (n *node) id(w http.ResponseWriter, _ *http.Request) error {
	return answer(w, struct {
		ID           string
		PublicKey    string
		Addresses    []string
		AgentVersion string
		Protocols    []string
	}{ID: n.identity.id, PublicKey: n.identity.publicKey, AgentVersion: "kubo/" + kuboVersion})
}

func (n *node) repoStat(w http.ResponseWriter, r *http.Request) error {
	keys, err := n.blocks.Blockstore().AllKeysChan(r.Context())
	if err != nil {
		return err
	}
	var count, size uint64
	for key := range keys {
		bytes, err := n.blocks.Blockstore().GetSize(r.Context(), key)
		if err != nil {
			return err
		}
		count++
		size += uint64(bytes)
	}
	return answer(w, struct {
		RepoSize, StorageMax, NumObjects uint64
		RepoPath, Version                string
	}{size, storageMax, count, "memory", "fs-repo@" + kuboRepository})
}
