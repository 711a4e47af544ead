package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/headwaterdb/headwater/libs/backup"
)

// Scheme begins the URL of a bucket.
const Scheme = "s3"

// partBytes is the size of the parts of an upload. One part is held in memory. S3 takes at most 10,000 of them.
const partBytes = 16 << 20

// Bucket is the part of a bucket whose names begin with a prefix.
type Bucket struct {
	c              *minio.Client
	transport      *http.Transport
	bucket, prefix string
}

var _ backup.Place = (*Bucket)(nil)

// Open returns a Bucket for s3://bucket/prefix?endpoint=host:port&region=r&insecure=true. Without an endpoint it is
// Amazon's. insecure=true means no TLS. The credentials are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, those of AWS's
// file, or the machine's role. Open does not call the service.
func Open(rawURL string) (*Bucket, error) { return open(rawURL, stallTimeout) }

// open is Open with the time after which a connection that moves nothing fails.
func open(rawURL string, stall time.Duration) (*Bucket, error) {
	u, err := url.Parse(rawURL)
	if err != nil { // do not print it: the URL may have a secret in it
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fmt.Errorf("the URL of a bucket: %w", err)
	}
	if u.Scheme != Scheme || u.Host == "" || u.User != nil {
		return nil, errors.New("a bucket's URL has the form " +
			"s3://bucket/prefix?endpoint=host:port&region=r&insecure=true")
	}
	q := u.Query()
	for k := range q {
		if k != "endpoint" && k != "region" && k != "insecure" {
			return nil, fmt.Errorf("the URL of a bucket has no option %q: the options are endpoint, region and "+
				"insecure", k)
		}
	}
	endpoint := q.Get("endpoint")
	if endpoint == "" {
		endpoint = "s3.amazonaws.com"
	}
	transport, err := minio.DefaultTransport(q.Get("insecure") != "true")
	if err != nil {
		return nil, err
	}
	endStalls(transport, stall)
	c, err := minio.New(endpoint, &minio.Options{
		Transport: transport,
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{},
			&credentials.IAM{Client: &http.Client{Transport: transport}},
		}),
		Secure: q.Get("insecure") != "true", Region: q.Get("region"),
	})
	if err != nil {
		return nil, err
	}
	prefix := strings.Trim(u.Path, "/")
	if prefix != "" {
		prefix += "/"
	}
	return &Bucket{c: c, transport: transport, bucket: u.Host, prefix: prefix}, nil
}

// Close closes idle connections.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}

// Put implements backup.Place.
func (b *Bucket) Put(ctx context.Context, name string, r io.Reader, size int64) error {
	_, err := b.c.PutObject(ctx, b.bucket, b.prefix+name, r, size, minio.PutObjectOptions{
		PartSize: partBytes, NumThreads: 1, SendContentMd5: true, DisableContentSha256: true,
	})
	return b.named(err)
}

// Open implements backup.Place.
func (b *Bucket) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	o, err := b.c.GetObject(ctx, b.bucket, b.prefix+name, minio.GetObjectOptions{})
	if err != nil {
		return nil, b.named(missing(err))
	}
	if _, err := o.Stat(); err != nil { // minio asks the service only when the object is first used
		return nil, errors.Join(b.named(missing(err)), o.Close())
	}
	return o, nil
}

// named adds to an error of the service where it is from, and its code: the messages of services say neither.
func (b *Bucket) named(err error) error {
	if err == nil {
		return nil
	}
	if code := minio.ToErrorResponse(err).Code; code != "" {
		return fmt.Errorf("the bucket %s at %s: %s: %w", b.bucket, b.c.EndpointURL().Host, code, err)
	}
	return fmt.Errorf("the bucket %s at %s: %w", b.bucket, b.c.EndpointURL().Host, err)
}

// missing turns the service's error for an object that does not exist into fs.ErrNotExist.
func missing(err error) error {
	if minio.ToErrorResponse(err).Code == "NoSuchKey" {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}

// List implements backup.Place.
func (b *Bucket) List(ctx context.Context) (all []backup.Object, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // ends the lister
	for o := range b.c.ListObjects(ctx, b.bucket, minio.ListObjectsOptions{Prefix: b.prefix}) {
		if o.Err != nil {
			return nil, b.named(o.Err)
		}
		name := strings.TrimPrefix(o.Key, b.prefix)
		if !strings.HasSuffix(name, "/") {
			all = append(all, backup.Object{Name: name, Bytes: o.Size, Modified: o.LastModified})
		}
	}
	return all, ctx.Err()
}

// Remove implements backup.Place.
func (b *Bucket) Remove(ctx context.Context, name string) error {
	return b.named(b.c.RemoveObject(ctx, b.bucket, b.prefix+name, minio.RemoveObjectOptions{}))
}
