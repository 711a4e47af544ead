package status

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

const (
	// keysPage and versionsPage are how much a page shows.
	keysPage     = 100
	versionsPage = 20
	// linkMax bounds the escaped key in a link, because the header of a request is bounded.
	linkMax = 8 << 10
	// likeness is how many first bytes a key must share with the last key of a page to be left out, if no link can name
	// the next key.
	likeness = 1 << 10
	// keyShown is how many characters of a key a list shows. valueShown is how many bytes of a value its page shows.
	keyShown   = 300
	valueShown = 64 << 10
)

// view is what all pages of a keyspace have.
type view struct {
	Keyspace string
	User     string
	Tab      string
	Problem  string // a mistake that the viewer can correct; "": none
}

// view returns the view of a visitor's page. There need not be a keyspace of that name.
func (v *visitor) view(tab string) view {
	return view{Keyspace: escape([]byte(v.keyspace)), User: escape([]byte(v.user)), Tab: tab}
}

// browser serves a page of a keyspace to a visitor.
type browser func(ctx context.Context, w http.ResponseWriter, r *http.Request, v *visitor) error

// browsing returns the handler of a page that reads a keyspace.
func (h *Handler) browsing(page browser) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if h.kv == nil {
			h.fail(w, r, status.Error(codes.Unimplemented, "this process cannot call its own API"))
			return
		}
		leave, ok := h.enter(h.places)
		if !ok {
			h.fail(w, r, errBusy)
			return
		}
		defer leave()
		v, err := h.visitor(r)
		if err == nil {
			ctx, cancel := context.WithTimeout(v.context(), requestTimeout)
			defer cancel()
			err = v.judge(page(ctx, w, r, v))
		}
		if err != nil {
			h.fail(w, r, err)
		}
	}
}

// errBusy: the number of viewers is at its limit. errManyTails: a viewer has as many tails open as one may have.
var (
	errBusy      = status.Error(codes.ResourceExhausted, "too many viewers at this moment")
	errManyTails = status.Error(codes.ResourceExhausted, "this address has as many tails open as one may have")
)

// httpCodes are the HTTP status codes of gRPC's codes.
var httpCodes = map[codes.Code]int{
	codes.NotFound: http.StatusNotFound, codes.PermissionDenied: http.StatusForbidden,
	codes.InvalidArgument: http.StatusBadRequest, codes.OutOfRange: http.StatusBadRequest,
	codes.FailedPrecondition: http.StatusConflict, codes.ResourceExhausted: http.StatusTooManyRequests,
	codes.Unavailable: http.StatusServiceUnavailable, codes.DeadlineExceeded: http.StatusGatewayTimeout,
	codes.Unimplemented: http.StatusNotImplemented,
}

// codeOf returns the HTTP status code of an error, and the text that people see.
func codeOf(err error) (code int, text string) {
	if errors.Is(err, errLogin) {
		return http.StatusUnauthorized, "This keyspace asks for a user and a password."
	}
	s := status.Convert(err)
	if code = httpCodes[s.Code()]; code == 0 {
		code = http.StatusInternalServerError
	}
	return code, s.Message()
}

// challenge makes the browser ask for a user of a keyspace. If there is such a keyspace, its name has no quote in it.
func challenge(w http.ResponseWriter, keyspace string) {
	w.Header().Set("WWW-Authenticate", "Basic realm="+strconv.QuoteToASCII("headwater keyspace "+keyspace)+
		`, charset="UTF-8"`)
}

// fail answers a request with an error.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	code, text := codeOf(err)
	name := r.PathValue("name")
	if code == http.StatusUnauthorized {
		challenge(w, name)
	}
	h.render(w, code, "error", struct {
		view
		Code int
		Text string
	}{view{Keyspace: escape([]byte(name))}, code, text})
}

// shownKey is a key in a list.
type shownKey struct {
	Name    string // as text, cut if it is long
	Link    string // "": the key is too long for a link
	Cut     bool
	Mod     int64
	Create  int64
	Version int64
	Lease   int64
}

func shownKeyOf(kv *mvccpb.KeyValue) shownKey {
	name := escape(kv.Key)
	k := shownKey{Mod: kv.ModRevision, Create: kv.CreateRevision, Version: kv.Version, Lease: kv.Lease}
	if len(name) <= linkMax {
		k.Link = name
	}
	k.Name, k.Cut = shorten(name, keyShown)
	return k
}

// keysView is the page of keys.
type keysView struct {
	view
	Prefix   string
	From     string // that was asked for
	Keys     []shownKey
	Count    int64 // of keys from here on
	Next     string
	LeftOut  int // Next leaves out the keys whose first so many bytes are those of the last one; 0: none
	Revision int64
}

// serveKeys serves a page of keys.
func (h *Handler) serveKeys(ctx context.Context, w http.ResponseWriter, r *http.Request, v *visitor) error {
	q := r.URL.Query()
	p := keysView{view: v.view("keys"), Prefix: q.Get("prefix"), From: q.Get("from")}
	prefix, err := unescape(p.Prefix)
	from, err2 := unescape(p.From)
	if err := errors.Join(err, err2); err != nil {
		p.Problem = err.Error()
		h.render(w, http.StatusBadRequest, "keys", p)
		return nil //nolint:nilerr // the page shows it
	}
	begin, end := keysFrom(prefix, from)
	a, err := h.list(ctx, begin, end)
	if err != nil {
		return err
	}
	for _, kv := range a.GetKvs() {
		p.Keys = append(p.Keys, shownKeyOf(kv))
	}
	p.Count, p.Revision = a.GetCount(), a.GetHeader().GetRevision()
	if n := len(a.GetKvs()); a.GetMore() && n > 0 {
		p.Next, p.LeftOut = nextOf(a.Kvs[n-1].Key)
	}
	h.render(w, http.StatusOK, "keys", p)
	return nil
}

// nextOf returns where the page after a key begins; "": there is none. If a link with the key would be too long, keys
// that begin like the last one are left out.
func nextOf(last []byte) (next string, leftOut int) {
	if next = escape(last) + `\x00`; len(next) <= linkMax {
		return next, 0
	}
	end := prefixEnd(last[:min(len(last), likeness)])
	if len(end) == 1 && end[0] == 0 { // all bytes were 0xff
		return "", likeness
	}
	return escape(end), likeness
}

// list reads a page of keys. If the keys are large, the page is small.
func (h *Handler) list(ctx context.Context, begin, end []byte) (*pb.RangeResponse, error) {
	for limit := int64(keysPage); ; limit /= 10 {
		a, err := h.kv.Range(ctx, &pb.RangeRequest{Key: begin, RangeEnd: end, Limit: limit, KeysOnly: true},
			grpc.MaxCallRecvMsgSize(answerMax))
		if limit == 1 || !tooLarge(err) {
			return a, err
		}
	}
}

// tooLarge says whether an answer was larger than answerMax. etcd's own errors with that code have other texts.
func tooLarge(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && !same(err, rpctypes.ErrGRPCRequestTooManyRequests) &&
		!same(err, rpctypes.ErrGRPCNoSpace)
}

// shownVersion is one version of a key.
type shownVersion struct {
	shownKey
	Value string
	Text  bool // Value is text; otherwise it is a hex dump
	Size  int
	Cut2  bool // Value is not all of it
}

// keyView is the page of a key.
type keyView struct {
	view
	Key      string
	Versions []shownVersion
	Gone     bool // the key does not exist now
	End      string
	Older    int64 // a revision at which there are older versions; 0: there are none
	Revision int64
}

// serveKey serves the history of a key.
func (h *Handler) serveKey(ctx context.Context, w http.ResponseWriter, r *http.Request, v *visitor) error {
	q := r.URL.Query()
	p := keyView{view: v.view("key"), Key: q.Get("key")}
	key, err := unescape(p.Key)
	at, err2 := int64(0), error(nil)
	if rev := q.Get("rev"); rev != "" {
		at, err2 = strconv.ParseInt(rev, 10, 64)
	}
	switch {
	case err != nil:
		p.Problem = err.Error()
	case len(key) == 0:
		p.Problem = "a key is needed"
	case err2 != nil || at < 0:
		p.Problem = "the revision is not a number"
	default:
		if err := h.history(ctx, &p, key, at); err != nil {
			return err
		}
		h.render(w, http.StatusOK, "key", p)
		return nil
	}
	h.render(w, http.StatusBadRequest, "key", p)
	return nil
}

// history reads versions of a key, from the one at a revision backwards; 0: from the newest.
func (h *Handler) history(ctx context.Context, p *keyView, key []byte, at int64) error {
	for range versionsPage {
		a, err := h.kv.Range(ctx, &pb.RangeRequest{Key: key, Revision: at}, grpc.MaxCallRecvMsgSize(historyMax))
		switch {
		case same(err, rpctypes.ErrGRPCCompacted) && err != nil:
			p.End = "Older versions have been compacted."
			return nil //nolint:nilerr // the page shows it
		case tooLarge(err):
			p.End = "The version at revision " + strconv.FormatInt(at, 10) + " is too large to be shown."
			return nil
		case err != nil:
			return err
		}
		if p.Revision == 0 {
			p.Revision = a.GetHeader().GetRevision()
		}
		if len(a.GetKvs()) == 0 {
			p.Gone = len(p.Versions) == 0
			return nil
		}
		kv := a.Kvs[0]
		p.Versions = append(p.Versions, shownVersionOf(kv))
		if kv.Version == 1 || kv.ModRevision <= 1 {
			p.End = "The key was created here. This page does not look for earlier lives of the key."
			return nil
		}
		at = kv.ModRevision - 1
	}
	p.Older = at
	return nil
}

// historyMax bounds the size of a version that is read: somewhat more than the largest value that etcd allows by
// default.
const historyMax = 8 << 20

func shownVersionOf(kv *mvccpb.KeyValue) shownVersion {
	v := shownVersion{shownKey: shownKeyOf(kv), Size: len(kv.Value)}
	v.Value, v.Text, v.Cut2 = show(kv.Value, valueShown)
	return v
}
