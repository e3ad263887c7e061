package server

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path"
	"strings"

	"github.com/photinus-project/photinus/gateway/internal/coded"
)

const (
	uiPath  = "/ui"
	uiIndex = "index.html"
)

// ui serves the files of a web application: what is no file is answered with its index, whose scripts know the path.
type ui struct {
	files fs.FS // a folder that nothing leads out of, links included
}

// newUI opens the folder of an application; an empty path is for none.
func newUI(folder string) (*ui, error) {
	if folder == "" {
		return nil, nil
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("the folder of the UI: %w", err)
	}
	return &ui{root.FS()}, nil
}

// serve answers when the request is below /ui, and says whether it was. Without an application nothing is.
func (u *ui) serve(w http.ResponseWriter, r *http.Request) bool {
	name, isBelow := strings.CutPrefix(r.URL.Path, uiPath)
	if u == nil || !isBelow || (name != "" && name[0] != '/') {
		return false
	}
	switch {
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		coded.Write(w, coded.New(coded.MethodNotAllowed, r.Method, "GET, HEAD"))
	case name == "":
		// Addresses in the index are relative to its folder, which is named as the client did: a proxy may have cut the path.
		w.Header().Set("Location", path.Base(uiPath)+"/")
		w.WriteHeader(http.StatusMovedPermanently)
	default:
		u.write(w, r, strings.Trim(name, "/"))
	}
	return true
}

func (u *ui) write(w http.ResponseWriter, r *http.Request, name string) {
	file, info, err := u.open(name)
	if err != nil {
		name = uiIndex
		file, info, err = u.open(name)
	}
	if err != nil {
		coded.Write(w, coded.New(coded.NotFound))
		return
	}
	defer func() { _ = file.Close() }()
	if name == uiIndex {
		w.Header().Set("Cache-Control", "no-cache") // it names the files of its version
	}
	http.ServeContent(w, r, name, info.ModTime(), file.(io.ReadSeeker))
}

var errNoFile = errors.New("no regular file")

func (u *ui) open(name string) (fs.File, fs.FileInfo, error) {
	if !fs.ValidPath(name) {
		return nil, nil, errNoFile
	}
	file, err := u.files.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := file.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, errors.Join(errNoFile, err, file.Close())
	}
	return file, info, nil
}
