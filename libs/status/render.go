package status

import (
	"bytes"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

//go:embed pages
var pages embed.FS

// templates are the pages by name, each with the frame around it.
var templates = parse("overview", "keyspaces", "keys", "key", "tail", "error")

func parse(names ...string) map[string]*template.Template {
	all := make(map[string]*template.Template)
	for _, n := range names {
		t := template.New("frame.html").Funcs(functions)
		all[n] = template.Must(t.ParseFS(pages, "pages/frame.html", "pages/"+n+".html"))
	}
	return all
}

// functions are the functions that pages can call.
var functions = template.FuncMap{
	"number": Number, "bytes": Size, "rate": Rate,
	"bytes64": func(n int) string { return Size(int64(n)) },
	"seconds": Seconds, "millis": millisText,
	"age": Age, "days": Days, "percent": percentText, "spark": spark, "bars": bars, "query": query,
	"plural": plural, "asset": asset, "next": func(n int) int { return n + 1 },
	"hex":    func(n int64) string { return strconv.FormatInt(n, 16) },
	"part":   func(done, total int64) float64 { return float64(done) / float64(max(total, 1)) },
	"since":  func(now, then time.Time) int64 { return int64(now.Sub(then).Seconds()) },
	"behind": func(n *Numbers) int64 { return max(n.Revision-n.HubRevision, 0) },
}

// render writes a page.
func (h *Handler) render(w http.ResponseWriter, code int, page string, data any) {
	var b bytes.Buffer
	if err := templates[page].Execute(&b, data); err != nil {
		h.o.Log.Error("a page cannot be rendered", "page", page, "error", err)
		http.Error(w, "the page cannot be rendered", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = b.WriteTo(w) // not an error if the viewer has gone away
}

// serveOverview serves the first page.
func (h *Handler) serveOverview(w http.ResponseWriter, r *http.Request) {
	h.render(w, http.StatusOK, "overview", struct {
		view
		*Overview
	}{view{Tab: "overview"}, h.overview(r.Context())})
}

// serveOverviewJSON serves the content of the first page for programs.
func (h *Handler) serveOverviewJSON(w http.ResponseWriter, r *http.Request) {
	b, err := json.Marshal(h.overview(r.Context()))
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(b) // as in render
}

// keyspacesPage is how many keyspaces a page of the list shows.
const keyspacesPage = 100

// keyspacesView is the list of keyspaces.
type keyspacesView struct {
	view
	Part, Order string
	Orders      []string
	Counted     bool
	AgeSeconds  int64
	More        bool
	Total       int
	From, To    int
	Previous    int // -1: none
	Next        int // as Previous
	Page        []KeyspaceUsage
	Trouble     string
}

// serveKeyspaces serves the list of keyspaces.
func (h *Handler) serveKeyspaces(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	p := keyspacesView{
		view: view{Tab: "keyspaces"}, Part: escape([]byte(q.Get("part"))), Order: q.Get("order"),
		Previous: -1, Next: -1, Orders: []string{"name", "rate", "size", "watches"},
	}
	if orders[p.Order] == nil {
		p.Order = "name"
	}
	p.From, _ = strconv.Atoi(q.Get("from")) // anything but a number means the beginning
	p.From = min(max(p.From, 0), censusMax)
	if c := h.census.get(r.Context()); c != nil {
		p.Counted, p.More, p.AgeSeconds = true, c.more, int64(h.o.Now().Sub(c.at).Seconds())
		p.Page, p.Total = c.page(p.Order, p.Part, p.From, keyspacesPage)
		if c.err != nil {
			p.Trouble = c.err.Error()
		}
	}
	p.To = p.From + len(p.Page)
	if p.From > 0 {
		p.Previous = max(p.From-keyspacesPage, 0)
	}
	if p.To < p.Total {
		p.Next = p.To
	}
	h.render(w, http.StatusOK, "keyspaces", p)
}

// query returns the query of a link from names and values in turn. It leaves out empty values.
func query(pairs ...any) template.URL {
	q := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if v := fmt.Sprint(pairs[i+1]); v != "" {
			q.Set(fmt.Sprint(pairs[i]), v)
		}
	}
	if len(q) == 0 {
		return ""
	}
	return template.URL("?" + q.Encode()) // Encode escapes all that means something in an address
}

// show returns a value as text, with JSON indented, or as a hex dump. cut says that it is not the whole value.
func show(value []byte, most int) (s string, text, cut bool) {
	if cut = len(value) > most; cut {
		value = value[:most]
		for range 3 { // the last character may have been cut
			if isText(value) || len(value) == 0 {
				break
			}
			value = value[:len(value)-1]
		}
	}
	if !isText(value) {
		value = value[:min(len(value), most/16)] // a dump is longer than what it shows
		return hex.Dump(value), false, cut || len(value) == most/16
	}
	var b bytes.Buffer
	if !cut && len(value) > 1 && (value[0] == '{' || value[0] == '[') && nesting(value) <= nestingMax &&
		json.Indent(&b, value, "", "  ") == nil && b.Len() <= 2*most {
		return b.String(), true, false
	}
	return string(value), true, cut
}

// nestingMax is the greatest depth of JSON that is indented. A line is indented by its depth, so 60 KB of deep JSON
// could become gigabytes.
const nestingMax = 64

// nesting returns how deep objects and lists of a JSON text are nested.
func nesting(text []byte) (deepest int) {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
			if c == '\\' {
				i++ // a quote behind it does not end the string
			}
		case c == '{' || c == '[':
			depth++
			deepest = max(deepest, depth)
		case c == '}' || c == ']':
			depth--
		}
	}
	return deepest
}
