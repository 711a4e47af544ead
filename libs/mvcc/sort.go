package mvcc

import (
	"bytes"
	"cmp"
	"context"
	"slices"
)

// sortRun is how many keys are sorted before the context is checked again.
const sortRun = 1 << 15

// sortKVs sorts key-ordered kvs. Ties keep their order; etcd leaves it open (sort.Sort). Errors: the context's.
func sortKVs(ctx context.Context, kvs []KV, order SortOrder, target SortTarget, num func(int64) int64) error {
	var compare func(a, b *KV) int
	switch target {
	case SortByKey:
		if order == SortDescend {
			slices.Reverse(kvs)
		}
		return nil
	case SortByVersion:
		compare = func(a, b *KV) int { return cmp.Compare(a.Version, b.Version) }
	case SortByCreate:
		compare = func(a, b *KV) int { return cmp.Compare(num(a.Create), num(b.Create)) }
	case SortByMod:
		compare = func(a, b *KV) int { return cmp.Compare(num(a.Mod), num(b.Mod)) }
	case SortByValue:
		compare = func(a, b *KV) int { return bytes.Compare(a.Value, b.Value) }
	default:
		return nil
	}
	return sortStable(ctx, kvs, func(a, b KV) int {
		if order == SortDescend {
			return compare(&b, &a)
		}
		return compare(&a, &b)
	})
}

// sortStable sorts runs and merges them.
func sortStable(ctx context.Context, kvs []KV, compare func(a, b KV) int) error {
	for run := range slices.Chunk(kvs, sortRun) {
		if err := ctx.Err(); err != nil {
			return err
		}
		slices.SortStableFunc(run, compare)
	}
	if len(kvs) <= sortRun {
		return nil
	}
	from, to := slices.Clone(kvs), kvs
	for width := sortRun; width < len(kvs); width *= 2 {
		for at := 0; at < len(from); at += 2 * width {
			if err := ctx.Err(); err != nil {
				return err
			}
			mid, end := min(at+width, len(from)), min(at+2*width, len(from))
			merge(to[at:end], from[at:mid], from[mid:end], compare)
		}
		from, to = to, from
	}
	if &from[0] != &kvs[0] {
		copy(kvs, from)
	}
	return nil
}

// merge fills to with the elements of a and b, both sorted; of equal ones those of a come first.
func merge(to, a, b []KV, compare func(a, b KV) int) {
	for i := range to {
		if len(b) == 0 || len(a) > 0 && compare(a[0], b[0]) <= 0 {
			to[i], a = a[0], a[1:]
		} else {
			to[i], b = b[0], b[1:]
		}
	}
}
