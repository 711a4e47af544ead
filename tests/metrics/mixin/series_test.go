package mixin

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// A scene takes almost no time. For Prometheus it lasts longer than the longest range over which the mixin looks at
// changes, 4 h, and every series goes in a straight line from its value before the scene to its value after it.
const (
	lasts       = 5 * time.Hour
	scrapeEvery = 30 * time.Second
	scrapes     = int(lasts/scrapeEvery) + 1
)

// begin is the time at which all scenes begin.
var begin = time.Unix(0, 0)

// line is the samples of one series. It implements chunks' Samples.
type line struct{ from, to float64 }

// Len is the number of samples.
func (l line) Len() int { return scrapes }

// Get returns a sample.
func (l line) Get(i int) chunks.Sample {
	part := float64(i) / float64(scrapes-1)
	at := begin.Add(time.Duration(i) * scrapeEvery)
	return sample{t: at.UnixMilli(), v: l.from + part*(l.to-l.from)}
}

// sample is a chunks.Sample of a number.
type sample struct {
	t int64
	v float64
}

func (s sample) T() int64                    { return s.t }
func (sample) ST() int64                     { return 0 }
func (s sample) F() float64                  { return s.v }
func (sample) H() *histogram.Histogram       { return nil }
func (sample) FH() *histogram.FloatHistogram { return nil }
func (sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s sample) Copy() chunks.Sample         { return s }

// scene is the series of one scene of one server. It implements storage.Queryable.
type scene []storage.Series

// Querier implements storage.Queryable.
func (s scene) Querier(int64, int64) (storage.Querier, error) {
	return &storage.MockQuerier{SelectMockFunction: s.choose}, nil
}

func (s scene) choose(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &set{SeriesSet: storage.EmptySeriesSet()}
	for _, one := range s {
		misses := func(m *labels.Matcher) bool { return !m.Matches(one.Labels().Get(m.Name)) }
		if !slices.ContainsFunc(matchers, misses) {
			found.rest = append(found.rest, one)
		}
	}
	return found
}

// set is a storage.SeriesSet without errors and warnings.
type set struct {
	storage.SeriesSet
	at   storage.Series
	rest []storage.Series
}

// Next implements storage.SeriesSet.
func (s *set) Next() bool {
	if len(s.rest) == 0 {
		return false
	}
	s.at, s.rest = s.rest[0], s.rest[1:]
	return true
}

// At implements storage.SeriesSet.
func (s *set) At() storage.Series { return s.at }

// readScene reads the metrics of a server before and after a scene, as a job named etcd. It adds the series up.
func readScene(t *testing.T, dir, name string) (all scene) {
	t.Helper()
	return readSceneOf(t, dir, name, "etcd")
}

// readSceneOf is readScene for a job of another name.
func readSceneOf(t *testing.T, dir, name, job string) (all scene) {
	t.Helper()
	before := readScrape(t, filepath.Join(dir, name+"-0.prom"), job)
	after := readScrape(t, filepath.Join(dir, name+"-1.prom"), job)
	for key, to := range after {
		from, ok := before[key]
		if !ok {
			from.value = 0 // the series began to exist during the scene
		}
		l := line{from: from.value, to: to.value}
		all = append(all,
			&storage.SeriesEntry{Lset: to.labels, SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
				return storage.NewListSeriesIterator(l)
			}})
	}
	slices.SortFunc(all, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	return all
}

// reading is one series of a scrape.
type reading struct {
	labels labels.Labels
	value  float64
}

// readScrape reads a scrape, by labels.
func readScrape(t *testing.T, path, job string) map[string]reading {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(f)
	if err != nil {
		t.Fatal(path, err)
	}
	all := map[string]reading{}
	add := func(name string, pairs []*dto.LabelPair, value float64, more ...string) {
		more = append(more, model.MetricNameLabel, name, "job", job, "instance", "one")
		b := labels.NewBuilder(labels.FromStrings(more...))
		for _, l := range pairs {
			b.Set(l.GetName(), l.GetValue())
		}
		all[b.Labels().String()] = reading{b.Labels(), value}
	}
	add("up", nil, 1)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			h := m.GetHistogram()
			if h == nil {
				add(name, m.GetLabel(), m.GetCounter().GetValue()+m.GetGauge().GetValue())
				continue
			}
			add(name+"_count", m.GetLabel(), float64(h.GetSampleCount()))
			add(name+"_sum", m.GetLabel(), h.GetSampleSum())
			for _, bucket := range h.GetBucket() {
				bound := strconv.FormatFloat(bucket.GetUpperBound(), 'g', -1, 64)
				add(name+"_bucket", m.GetLabel(), float64(bucket.GetCumulativeCount()), "le", bound)
			}
		}
	}
	return all
}
