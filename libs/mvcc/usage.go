package mvcc

// countOps counts the operations that a transaction has carried out.
func (u *Usage) countOps(ops []OpResult) {
	for i := range ops {
		switch ops[i].Kind {
		case OpRange:
			u.Ranges.Add(1)
		case OpPut:
			u.Puts.Add(1)
		case OpDelete:
			u.Deletes.Add(1)
		case OpTxn:
			u.countOps(ops[i].Ops)
		}
	}
}
