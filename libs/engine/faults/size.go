package faults

// Size returns what the transaction counts as so far, exactly as FoundationDB 7.3 does (package txnsize).
func (t *txn) Size() int { return t.size.Bytes() }

// Set implements engine.Txn.
func (t *txn) Set(key, value []byte) {
	t.size.Set(len(key), len(value))
	t.Txn.Set(key, value)
}

// Clear implements engine.Txn.
func (t *txn) Clear(key []byte) {
	t.size.Clear(len(key))
	t.Txn.Clear(key)
}

// ClearRange implements engine.Txn.
func (t *txn) ClearRange(begin, end []byte) {
	if end == nil || string(begin) < string(end) {
		t.size.ClearRange(len(begin), len(end))
	}
	t.Txn.ClearRange(begin, end)
}

// SetStampedKey implements engine.Txn.
func (t *txn) SetStampedKey(key []byte, at int, value []byte) {
	t.size.StampedKey(len(key), len(value))
	t.Txn.SetStampedKey(key, at, value)
}

// SetStampedValue implements engine.Txn.
func (t *txn) SetStampedValue(key, value []byte, at int) {
	t.size.StampedValue(len(key), len(value))
	t.Txn.SetStampedValue(key, value, at)
}

// Add implements engine.Txn.
func (t *txn) Add(key []byte, delta int64) {
	t.size.Add(len(key))
	t.Txn.Add(key, delta)
}

// AddReadConflict implements engine.Txn.
func (t *txn) AddReadConflict(begin, end []byte) {
	if end == nil || string(begin) < string(end) {
		t.size.Conflict(len(begin), len(end))
	}
	t.Txn.AddReadConflict(begin, end)
}

// AddWriteConflict implements engine.Txn.
func (t *txn) AddWriteConflict(begin, end []byte) {
	if end == nil || string(begin) < string(end) {
		t.size.Conflict(len(begin), len(end))
	}
	t.Txn.AddWriteConflict(begin, end)
}
