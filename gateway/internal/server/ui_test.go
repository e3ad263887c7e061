package server

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

const uiPage = "<html>the application</html>"

// application makes a folder with a web application, and beside it what must not be seen.
func application(t *testing.T) string {
	t.Helper()
	parent := t.TempDir()
	folder := filepath.Join(parent, "ui")
	for name, text := range map[string]string{
		"ui/index.html": uiPage, "ui/static/app.js": "js", "ui/a b.css": "css", "secret.txt": "secret",
	} {
		path := filepath.Join(parent, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range map[string]string{"out": "../secret.txt", "away": filepath.Join(parent, "secret.txt"), "folder": "..", "in.js": "static/app.js"} {
		if err := os.Symlink(target, filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

func TestUI(t *testing.T) {
	folder := application(t)
	gateway := newGateway(t, func(options *Options) { options.UIFolder = folder })
	for path, want := range map[string]struct{ text, media string }{
		"/ui/":                              {uiPage, "text/html; charset=utf-8"},
		"/ui/index.html":                    {uiPage, "text/html; charset=utf-8"},
		"/ui/static/app.js":                 {"js", "text/javascript; charset=utf-8"},
		"/ui/in.js":                         {"js", "text/javascript; charset=utf-8"},
		"/ui/a%20b.css":                     {"css", "text/css; charset=utf-8"},
		"/ui/namespaces/default":            {uiPage, "text/html; charset=utf-8"},
		"/ui/static":                        {uiPage, "text/html; charset=utf-8"},
		"/ui/static/":                       {uiPage, "text/html; charset=utf-8"},
		"/ui/%2e%2e/secret.txt":             {uiPage, "text/html; charset=utf-8"},
		"/ui/..%2fsecret.txt":               {uiPage, "text/html; charset=utf-8"},
		"/ui/static%2f..%2f..%2fsecret.txt": {uiPage, "text/html; charset=utf-8"},
		"/ui/out":                           {uiPage, "text/html; charset=utf-8"},
		"/ui/away":                          {uiPage, "text/html; charset=utf-8"},
		"/ui/folder/secret.txt":             {uiPage, "text/html; charset=utf-8"},
		"/ui/%00":                           {uiPage, "text/html; charset=utf-8"},
		"/ui/%5c..%5csecret.txt":            {uiPage, "text/html; charset=utf-8"},
	} {
		response, text := gateway.do(t, "GET", path, "")
		if response.StatusCode != 200 || text != want.text || response.Header.Get("Content-Type") != want.media {
			t.Errorf("%s: %d %q %s", path, response.StatusCode, text, response.Header.Get("Content-Type"))
		}
	}
	for path, location := range map[string]string{"/ui": "ui/", "/ui/../secret.txt": "/secret.txt", "/ui//static": "/ui/static"} {
		response, _ := gateway.do(t, "GET", path, "")
		if response.StatusCode != http.StatusMovedPermanently || response.Header.Get("Location") != location {
			t.Errorf("%s: %d %s", path, response.StatusCode, response.Header.Get("Location"))
		}
	}
	gateway.expect(t, "POST", "/ui/", "{}", 405, errorBody("FF19003: Method POST is not allowed here; allowed: GET, HEAD"), jsonType...)
	gateway.expect(t, "GET", "/uix", "", 404, errorBody("FF10109: Not found"))
	if response, text := gateway.do(t, "GET", "/ui/static/app.js", "", "Range", "bytes=1-"); response.StatusCode != http.StatusPartialContent || text != "s" {
		t.Errorf("%d %q", response.StatusCode, text)
	}
	if err := os.Remove(filepath.Join(folder, "index.html")); err != nil {
		t.Fatal(err)
	}
	gateway.expect(t, "GET", "/ui/absent", "", 404, errorBody("FF10109: Not found"))
}

func TestWithoutAUI(t *testing.T) {
	newGateway(t).expect(t, "GET", "/ui/", "", 404, errorBody("FF10109: Not found"))
	if _, err := New(newGateway(t).conn, Options{UIFolder: filepath.Join(t.TempDir(), "absent")}); err == nil {
		t.Error("a folder that is not there was taken")
	}
}
