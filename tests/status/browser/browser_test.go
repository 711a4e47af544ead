package browser

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// chromium returns the path of the browser. Without one the test is skipped.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); name != "" && err == nil {
			return path
		}
	}
	fmt.Fprintln(os.Stderr, "NOT TESTED: THE STATUS PAGE IN A BROWSER. "+
		"There is no Chromium (apt-get install chromium, or CHROMIUM=path).")
	t.Skip("NO CHROMIUM")
	return ""
}

// browser is a tab.
type browser struct {
	t   *testing.T
	ctx context.Context

	mu     sync.Mutex
	errors []string
}

func open(t *testing.T, path string) *browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox,
		chromedp.WSURLReadTimeout(patience), chromedp.UserDataDir(t.TempDir()))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx}
	chromedp.ListenTarget(ctx, func(ev any) {
		switch ev := ev.(type) {
		case *runtime.EventExceptionThrown:
			b.note(ev.ExceptionDetails.Error())
		case *log.EventEntryAdded:
			if ev.Entry.Level == log.LevelError {
				b.note(ev.Entry.Text + " " + ev.Entry.URL)
			}
		}
	})
	b.run(log.Enable(), runtime.Enable())
	return b
}

func (b *browser) note(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errors = append(b.errors, what)
}

// run performs actions in the tab, one after the other.
func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	if err := chromedp.Run(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range b.errors {
		b.t.Error("the browser complains:", e)
	}
	b.errors = nil
}

// until waits until a script returns true on a page whose own script has been loaded.
func (b *browser) until(script string) {
	b.t.Helper()
	for end := time.Now().Add(patience); ; {
		var done bool
		// While the browser leaves a page, the script fails.
		err := chromedp.Run(b.ctx, chromedp.Evaluate(`document.readyState === "complete" && !!(`+script+")", &done))
		switch {
		case done && err == nil:
			b.run() // reports errors of the browser
			return
		case time.Now().After(end):
			b.t.Fatal("timed out waiting for ", script, err)
		}
		time.Sleep(20 * time.Millisecond) // between two attempts
	}
}

// value returns the result of a script.
func value[V any](b *browser, script string) (v V) {
	b.t.Helper()
	b.run(chromedp.Evaluate(script, &v))
	return v
}

// screen sets the size of the window and the preferred colours.
func (b *browser) screen(width, height int64, scheme string) {
	b.t.Helper()
	b.run(chromedp.EmulateViewport(width, height), emulation.SetEmulatedMedia().WithFeatures(
		[]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// picture writes a picture of the page, if HEADWATER_PICTURES is set.
func (b *browser) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("HEADWATER_PICTURES")
	if dir == "" {
		return
	}
	var png []byte
	b.run(chromedp.CaptureScreenshot(&png))
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// press presses a key that is a command. (chromedp's own KeyEvent would also type the character.)
func press(key string) chromedp.Action {
	return chromedp.ActionFunc(func(ctx context.Context) error {
		return errors.Join(input.DispatchKeyEvent(input.KeyRawDown).WithKey(key).Do(ctx),
			input.DispatchKeyEvent(input.KeyUp).WithKey(key).Do(ctx))
	})
}

// visit goes to a page, which must not be wider than the window.
func (b *browser) visit(page string) {
	b.t.Helper()
	b.run(chromedp.Navigate(page), chromedp.WaitReady("main"))
	if wide := value[int](b, "document.documentElement.scrollWidth - innerWidth"); wide > 0 {
		b.t.Errorf("%s is wider than the window by %d", page, wide)
	}
	if title := value[string](b, "document.title"); strings.Contains(title, "broken") {
		b.t.Errorf("%s executed stored text", page)
	}
}

// TestStatusPage visits the pages as a user would who looks for a key.
func TestStatusPage(t *testing.T) {
	path := chromium(t)
	s := start(t)
	for i := range 9 {
		s.create(fmt.Sprintf("team-%d", i))
		s.put(fmt.Sprintf("team-%d", i), "k", strings.Repeat("v", 100*i))
	}
	s.fill()
	b := open(t, path)
	b.screen(1280, 1200, "light")
	t.Run("overview", func(t *testing.T) { overview(t, b, s) })
	t.Run("keys", func(t *testing.T) { keys(t, b, s) })
	t.Run("tail", func(t *testing.T) { tail(t, b, s) })
	t.Run("screens", func(t *testing.T) { screens(t, b, s) })
	t.Run("hostile", func(t *testing.T) { stored(t, b, s) })
}

// overview checks that the page updates itself without losing the focus, stops on request, and goes on.
func overview(t *testing.T, b *browser, s *server) {
	b.t = t
	b.visit(s.status)
	b.until(`document.querySelector("#latency table") && document.querySelectorAll("#keyspaces tbody tr").length > 10`)
	first := value[string](b, `document.querySelector("time").dateTime`)
	b.run(chromedp.Focus(`//a[@id="s-default"]`))
	b.until(`document.querySelector("time").dateTime !== "` + first + `"`)
	if at := value[string](b, "document.activeElement.id"); at != "s-default" {
		t.Errorf("the focus is in %q", at)
	}
	s.put("", "one more", "v")
	b.until(`/\u202f|\/s/.test(document.querySelector("#figures").textContent)`)
	b.until(`document.querySelectorAll("#figures svg polyline").length === 4`)
	b.picture("overview")
	b.run(chromedp.Evaluate("document.activeElement.blur()", nil), press(" "))
	b.until(`document.getElementById("live").textContent === "Stopped"`)
	b.run(press(" "))
	b.until(`document.getElementById("live").getAttribute("aria-pressed") === "true"`)
	b.run(press("/"))
	b.until(`location.pathname === "/status/keyspaces" && document.querySelectorAll("tbody tr").length === 10`)
	b.run(press("/"), chromedp.KeyEvent("team-3"), chromedp.KeyEvent(kb.Enter))
	b.until(`document.querySelectorAll("tbody tr").length === 1`)
	b.run(chromedp.Click("tbody a"))
	b.until(`location.pathname === "/status/keyspaces/team-3/"`)
}

// keys checks that the keyboard turns pages, that a prefix finds keys, and that a key's history is shown.
func keys(t *testing.T, b *browser, s *server) {
	b.t = t
	b.visit(s.status + "keyspaces/default/")
	rows := `document.querySelectorAll("tbody tr").length`
	first := value[string](b, `document.querySelector("td.key").textContent`)
	b.run(press("n"))
	b.until(`location.search.includes("from=") && ` + rows + ` > 20`)
	b.run(press("p"))
	b.until(`!location.search.includes("from=") && document.readyState === "complete"`)
	if again := value[string](b, `document.querySelector("td.key").textContent`); again != first {
		t.Errorf("the first key is %q, then %q", first, again)
	}
	b.run(press("/"), chromedp.KeyEvent("/registry/leases/"), chromedp.KeyEvent(kb.Enter))
	b.until(rows + ` === 1 && document.querySelector("td.key a").textContent === "/registry/leases/leader"`)
	b.picture("keys")
	b.run(chromedp.Click("td.key a"))
	b.until(`document.querySelectorAll("article.version").length === 4`)
	b.picture("key")
}

// tail checks that the tail shows new writes, and none after it has been stopped.
func tail(t *testing.T, b *browser, s *server) {
	b.t = t
	b.visit(s.status + "keyspaces/default/tail?prefix=" + url.QueryEscape("/registry/"))
	b.until(`document.getElementById("state").textContent.startsWith("Following")`)
	for i := range 30 {
		s.put("", fmt.Sprintf("/registry/events/e-%d", i), `{"reason":"Scheduled"}`)
		s.put("", "elsewhere", "v")
	}
	rows := `document.querySelectorAll("#tail tbody tr").length`
	b.until(rows + " === 30")
	b.picture("tail")
	b.run(press(" "))
	b.until(`document.getElementById("state").textContent === "Stopped."`)
	s.put("", "/registry/events/missed", "v")
	b.run(press(" "))
	b.until(rows + ` === 31 && document.querySelector("#tail td.key").textContent === "/registry/events/missed"`)
}

// screens checks all sizes and colours. No page is wider than the window, and text has enough contrast with its
// background.
func screens(t *testing.T, b *browser, s *server) {
	b.t = t
	pages := map[string]string{
		"overview": s.status, "keyspaces": s.status + "keyspaces", "keys": s.status + "keyspaces/default/",
		"key":  s.status + "keyspaces/default/key?key=" + url.QueryEscape("/registry/leases/leader"),
		"tail": s.status + "keyspaces/default/tail",
	}
	for width, scheme := range map[int64]string{360: "dark", 1600: "light"} {
		b.screen(width, 900, scheme)
		for name, page := range pages {
			b.visit(page)
			if c := value[float64](b, contrast); c < 4.5 {
				t.Errorf("%s, %s: the weakest contrast is %.1f", name, scheme, c)
			}
		}
	}
	b.screen(1280, 1200, "dark")
	b.visit(s.status)
	b.picture("dark")
	b.screen(390, 844, "light")
	b.visit(s.status)
	b.picture("narrow")
}

// contrast is a script that returns the lowest contrast of any text with its background.
const contrast = `(() => {
  const light = (c) => {
    const v = c.match(/[\d.]+/g).slice(0, 3).map((n) => n / 255)
      .map((n) => n <= .03928 ? n / 12.92 : ((n + .055) / 1.055) ** 2.4);
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2];
  };
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor;
      if (!/, 0\)$|transparent/.test(c)) return light(c);
    }
    return 1;
  };
  let least = 21;
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
    if (!text || e.closest("[hidden], noscript, .sep, .skip")) continue;
    const a = light(getComputedStyle(e).color), b = behind(e);
    least = Math.min(least, (Math.max(a, b) + .05) / (Math.min(a, b) + .05));
  }
  return least;
})()`

// stored checks that hostile keys are shown as text, in lists, on their own pages and in the tail.
func stored(t *testing.T, b *browser, s *server) {
	b.t = t
	b.screen(1280, 900, "light")
	b.visit(s.status + "keyspaces/default/tail?from=1")
	b.until(`document.querySelectorAll("#tail tbody tr").length > 100`)
	for _, key := range hostile {
		if key[0] == 0 {
			continue // the tail shows it escaped, see below
		}
		found := fmt.Sprintf(
			`[...document.querySelectorAll("#tail td.key")].some((e) => e.textContent.startsWith(%q))`, key[:20])
		if !value[bool](b, found) {
			t.Errorf("the tail does not show %q", key)
		}
	}
	b.visit(s.status + "keyspaces/default/?prefix=" + url.QueryEscape(`\x00`))
	if got := value[string](b, `document.querySelector("td.key").textContent`); got != `\x00\xff\xe2\x80\xaebinary` {
		t.Errorf("a binary key is %q", got)
	}
	for _, prefix := range []string{"<", `"`, "'"} {
		b.visit(s.status + "keyspaces/default/?prefix=" + url.QueryEscape(prefix))
		b.run(chromedp.Click("td.key a"))
		b.until(`document.querySelectorAll("article.version").length === 1`)
		if n := value[int](b, `document.querySelectorAll("main script, main img, main b").length`); n != 0 {
			t.Errorf("%d elements have been stored", n)
		}
		if title := value[string](b, "document.title"); strings.Contains(title, "broken") {
			t.Error("stored text was executed")
		}
	}
}
