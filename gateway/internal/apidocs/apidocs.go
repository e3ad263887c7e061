// Package apidocs serves the OpenAPI document and Swagger UI.
//
// The document is generated (scripts/generate_rest.py) and built in; so are the files of Swagger UI, which set-up copies
// from its npm package into the folder swagger-ui before the build. Nothing is fetched when it runs.
package apidocs

import (
	"bytes"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"path"
	"regexp"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/photinus-project/photinus/gateway/internal/coded"
)

//go:embed openapi.json
var document []byte

//go:embed swagger-ui page.html
var files embed.FS

const (
	assetsPath     = "/swagger-ui/"
	assetsCaching  = "public, max-age=3600"
	namespacesPath = "/namespaces/{ns}/"
)

var (
	documentName  = regexp.MustCompile(`^/(?:swagger|openapi)\.(json|yaml)$`)
	documentPath  = regexp.MustCompile(`^/api/(?:swagger|openapi)\.(json|yaml)$`)
	namespacePath = regexp.MustCompile(`^/api/v1/namespaces/([^/]+)/api(?:/(?:swagger|openapi)\.(json|yaml))?$`)
	pathParameter = regexp.MustCompile(`\\\{[^/]*?\\\}`)
)

// openAPI is the part of the document that is changed or looked at.
type openAPI struct {
	OpenAPI    string                                `json:"openapi"`
	Info       json.RawMessage                       `json:"info"`
	Servers    []server                              `json:"servers"`
	Security   json.RawMessage                       `json:"security"`
	Paths      map[string]map[string]json.RawMessage `json:"paths"`
	Components json.RawMessage                       `json:"components"`
}

type server struct {
	URL string `json:"url"`
}

type routePattern struct {
	path    *regexp.Regexp
	methods []string
}

// Docs is the handler of all documentation of one interface.
type Docs struct {
	root     string // where the page is; routes and documents are below it
	whole    openAPI
	page     *template.Template
	public   string
	prefix   string
	patterns []routePattern
}

// New reads what is built in. publicURL is where clients reach the gateway; empty means as they just did, with prefix in
// front of the path.
func New(publicURL, prefix string) (*Docs, error) {
	return load("/api", document, publicURL, prefix)
}

func load(root string, document []byte, publicURL, prefix string) (*Docs, error) {
	docs := &Docs{root: root, public: strings.TrimSuffix(publicURL, "/"), prefix: prefix}
	if err := json.Unmarshal(document, &docs.whole); err != nil {
		return nil, fmt.Errorf("the document of %s: %w", root, err)
	}
	page, err := template.ParseFS(files, "page.html")
	if err != nil {
		return nil, err
	}
	docs.page = page
	for path, operations := range docs.whole.Paths {
		pattern := routePattern{path: regexp.MustCompile("^" + root + "/v1" + pathPattern(path) + "$")}
		for method := range operations {
			pattern.methods = append(pattern.methods, strings.ToUpper(method))
		}
		docs.patterns = append(docs.patterns, pattern)
	}
	return docs, nil
}

func pathPattern(path string) string {
	return pathParameter.ReplaceAllString(regexp.QuoteMeta(path), `[^/]+`)
}

// Allowed gives the methods that a path takes, sorted.
func (d *Docs) Allowed(path string) []string {
	found := map[string]bool{}
	for _, pattern := range d.patterns {
		if pattern.path.MatchString(path) {
			for _, method := range pattern.methods {
				found[method] = true
			}
		}
	}
	methods := make([]string, 0, len(found))
	for method := range found {
		methods = append(methods, method)
	}
	sort.Strings(methods)
	return methods
}

// IsDocument says whether a path is that of the document, and not of the page that shows it.
func (d *Docs) IsDocument(path string) bool {
	rest, isBelow := strings.CutPrefix(path, d.root)
	return isBelow && documentName.MatchString(rest)
}

// DocumentOf says whether a path is that of a document, and of which namespace; the empty one stands for all of them. The
// pages that show documents, and their files, hold nothing of this node.
func DocumentOf(path string) (namespace string, isDocument bool) {
	if documentPath.MatchString(path) {
		return "", true
	}
	if found := namespacePath.FindStringSubmatch(path); found != nil && found[2] != "" {
		return found[1], true
	}
	return "", false
}

// Serve answers when the request is for documentation, and says whether it was.
func (d *Docs) Serve(w http.ResponseWriter, r *http.Request) bool {
	base := d.baseURL(r)
	rest, isBelow := strings.CutPrefix(r.URL.Path, d.root)
	if isBelow && rest == "" {
		return d.serve(w, r, func() { d.writePage(w, base+d.root+"/openapi.yaml", base) })
	}
	if isBelow && strings.HasPrefix(rest, assetsPath) {
		return d.serve(w, r, func() { writeAsset(w, r) })
	}
	if found := documentName.FindStringSubmatch(rest); isBelow && found != nil {
		return d.serve(w, r, func() { writeDocument(w, d.forURL(base+d.root+"/v1"), found[1]) })
	}
	found := namespacePath.FindStringSubmatch(r.URL.Path)
	if found == nil || d.root != "/api" {
		return false
	}
	url := base + "/api/v1/namespaces/" + found[1]
	if found[2] == "" {
		return d.serve(w, r, func() { d.writePage(w, url+"/api/openapi.yaml", base) })
	}
	return d.serve(w, r, func() { writeDocument(w, d.forNamespace(url), found[2]) })
}

func (d *Docs) serve(w http.ResponseWriter, r *http.Request, write func()) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		coded.Write(w, coded.New(coded.MethodNotAllowed, r.Method, "GET, HEAD"))
		return true
	}
	write()
	return true
}

func (d *Docs) baseURL(r *http.Request) string {
	if d.public != "" {
		return d.public
	}
	if r.TLS != nil {
		return "https://" + r.Host + d.prefix
	}
	return "http://" + r.Host + d.prefix
}

// title is what the page is called.
func (o openAPI) title() string {
	var info struct{ Title string }
	_ = json.Unmarshal(o.Info, &info) // generated: it has one
	return info.Title
}

func (d *Docs) forURL(url string) openAPI {
	copied := d.whole
	copied.Servers = []server{{URL: url}}
	return copied
}

// forNamespace keeps what exists for every namespace, under paths relative to one.
func (d *Docs) forNamespace(url string) openAPI {
	copied := d.forURL(url)
	copied.Paths = map[string]map[string]json.RawMessage{}
	for path := range d.whole.Paths {
		if inner, ok := strings.CutPrefix(path, namespacesPath); ok {
			copied.Paths["/"+inner] = d.whole.Paths["/"+inner]
		}
	}
	return copied
}

func writeDocument(w http.ResponseWriter, found openAPI, format string) {
	text, err := json.Marshal(found)
	media := "application/json"
	if err == nil && format == "yaml" {
		text, err = toYAML(text)
		media = "application/x-yaml"
	}
	if err != nil {
		coded.Write(w, coded.From(err))
		return
	}
	w.Header().Set("Content-Type", media)
	_, _ = w.Write(text)
}

// toYAML keeps the order of the JSON's keys.
func toYAML(text []byte) ([]byte, error) {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return nil, err
	}
	clearStyle(&root)
	return yaml.Marshal(&root)
}

func clearStyle(node *yaml.Node) {
	node.Style = 0
	for _, inner := range node.Content {
		clearStyle(inner)
	}
}

func (d *Docs) writePage(w http.ResponseWriter, documentURL, base string) {
	var page bytes.Buffer
	if err := d.page.Execute(&page, map[string]string{"Document": documentURL, "Assets": base + d.root + assetsPath, "Title": d.whole.title()}); err != nil {
		coded.Write(w, coded.From(err))
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(page.Bytes())
}

func writeAsset(w http.ResponseWriter, r *http.Request) {
	name := path.Join("swagger-ui", path.Base(r.URL.Path))
	text, err := files.ReadFile(name)
	if err != nil || name == "swagger-ui/README.md" {
		coded.Write(w, coded.New(coded.NotFound))
		return
	}
	media := map[string]string{".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".png": "image/png"}
	w.Header().Set("Content-Type", media[path.Ext(name)])
	w.Header().Set("Cache-Control", assetsCaching)
	_, _ = w.Write(text)
}
