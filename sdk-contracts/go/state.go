package sdk

// Value is one value in the contract's state.
type Value[V any] struct{ key string }

// NewValue names a value. The name may not begin another's.
func NewValue[V any](key string) Value[V] { return Value[V]{key} }

// Get returns the value, or V's zero value when it was never set.
func (s Value[V]) Get() V {
	v, _ := s.Lookup()
	return v
}

// Lookup returns the value and whether it was ever set.
func (s Value[V]) Lookup() (V, bool) { return load[V](name(s.key), s.key) }

// Set replaces the value.
func (s Value[V]) Set(v V) { store(name(s.key), &v) }

// Delete removes the value.
func (s Value[V]) Delete() { hostDel(name(s.key)) }

// Map is a mapping from K to V in the contract's state. K is an integer, string, []byte, Addr, Hash, a type
// made of those, or a struct of them in which only the last field may be a string or []byte.
type Map[K, V any] struct{ prefix string }

// NewMap names a map. Its keys are the name, a slash, and the key's bytes.
func NewMap[K, V any](name string) Map[K, V] { return Map[K, V]{name + "/"} }

// Get returns the value under k, or V's zero value when there is none.
func (m Map[K, V]) Get(k K) V {
	v, _ := m.Lookup(k)
	return v
}

// Lookup returns the value under k and whether there is one.
func (m Map[K, V]) Lookup(k K) (V, bool) { return load[V](m.key(&k), m.prefix) }

// Has reports whether there is a value under k.
func (m Map[K, V]) Has(k K) bool { return hostHas(m.key(&k)) }

// Set puts v under k.
func (m Map[K, V]) Set(k K, v V) { store(m.key(&k), &v) }

// Delete removes what is under k.
func (m Map[K, V]) Delete(k K) { hostDel(m.key(&k)) }

// All ranges over at most limit entries in the order of their keys:
//
//	for who, amount := range balances.All(100) { … }
func (m Map[K, V]) All(limit uint32) func(yield func(K, V) bool) {
	return m.scan([]byte(m.prefix), []byte(m.prefix), limit, 0)
}

// From is All, beginning with the first key that is not below k: the way to the next page.
func (m Map[K, V]) From(k K, limit uint32) func(yield func(K, V) bool) {
	return m.scan(append([]byte(nil), m.key(&k)...), []byte(m.prefix), limit, 0)
}

// Backward is All from the highest key down.
func (m Map[K, V]) Backward(limit uint32) func(yield func(K, V) bool) {
	return m.scan([]byte(m.prefix), []byte(m.prefix), limit, scanReverse)
}

// Under is All over the keys that begin with first: a string, or what the first field of a struct is.
//
//	for day, rate := range sdk.Under(rates, bank, 100) { … } // of a Map[Day, Rate] whose Day begins with an Addr
func Under[P, K, V any](m Map[K, V], first P, limit uint32) func(yield func(K, V) bool) {
	start := append([]byte(nil), appendKey(append(scratch.key[:0], m.prefix...), &first)...)
	return m.scan(start, start, limit, 0)
}

const scanReverse = 1

// scan ranges from start on over keys that begin with prefix, which begins with that of the map.
func (m Map[K, V]) scan(start, prefix []byte, limit, flags uint32) func(yield func(K, V) bool) {
	return func(yield func(K, V) bool) {
		end := append([]byte(nil), prefix...)
		for end[len(end)-1] == 0xff {
			end = end[:len(end)-1]
		}
		end[len(end)-1]++ // what follows the prefix; the slash of the map at the least is not 0xff
		it := hostScan(start, end, flags, limit)
		defer hostScanClose(it)
		for {
			entry := scratch.read[:]
			if n := int(hostScanNext(it, entry)); n < 0 {
				return
			} else if n > len(entry) {
				entry = result()
			} else {
				entry = entry[:n]
			}
			d := Decoder{data: entry}
			d.Struct(2)
			key := d.take(d.head(majorBytes))
			value := &scratch.value
			*value = Decoder{data: d.take(d.head(majorBytes))}
			var k K
			var v V
			if !d.Done() || !decodeKey(key[len(m.prefix):], &k) {
				Abort(CodeState, "key of "+m.prefix)
			}
			if decodeValue(value, &v); !value.Done() {
				Abort(CodeState, "value under "+m.prefix)
			}
			if !yield(k, v) {
				return
			}
		}
	}
}

func (m Map[K, V]) key(k *K) []byte {
	return appendKey(append(scratch.key[:0], m.prefix...), k)
}

// name returns the key of a value.
func name(key string) []byte { return append(scratch.key[:0], key...) }

// load returns the value under a key. Of the key, a failure tells what the source calls it: the rest may be bytes that are no text.
func load[V any](key []byte, called string) (v V, ok bool) {
	data := scratch.read[:]
	if n := int(hostGet(key, data)); n < 0 {
		return v, false
	} else if n > len(data) {
		data = result()
	} else {
		data = data[:n]
	}
	d := &scratch.value
	*d = Decoder{data: data}
	if decodeValue(d, &v); !d.Done() {
		Abort(CodeState, "value under "+called)
	}
	return v, true
}

func store(key []byte, v any) {
	hostSet(key, appendValue(scratch.write[:0], v))
}

// Counter is a number in state that is only added to, so that calls which add to it can run in parallel.
type Counter struct{ key string }

// NewCounter names a counter. It begins at 0.
func NewCounter(key string) Counter { return Counter{key} }

// Add adds delta if the sum stays within least and most, and reports whether it did.
func (c Counter) Add(delta, least, most int64) bool {
	return hostAdd(name(c.key), delta, least, most) == 0
}

// Get returns the counter. A method that reads it cannot run in parallel with those that add.
func (c Counter) Get() int64 {
	v, _ := load[int64](name(c.key), c.key)
	return v
}

// Balances is a Map of amounts to which calls that run in parallel can add: an account that many pay does not order the payments.
//
// Add and Sub of an amount below 2^63, to a balance that is below 2^63 before and after, do not look at it, and run in parallel
// with others that do so. All else reads the balance and writes it, as Set does, and is executed once more if another call changed it
// meanwhile: Get and its like, larger amounts and balances, and a Sub of more than there is. What state holds is the same.
type Balances[K any] struct{ Map[K, U128] }

// NewBalances names a map of balances, each 0 at first. Its keys are those of NewMap.
func NewBalances[K any](name string) Balances[K] { return Balances[K]{NewMap[K, U128](name)} }

// Add adds an amount to the balance under k. A sum beyond 128 bits ends the call with CodeOverflow.
func (b Balances[K]) Add(k K, amount U128) {
	if amount.wide() || hostAdd(b.key(&k), int64(amount.Lo), 0, 1<<63-1) != 0 {
		b.Set(k, b.Get(k).Add(amount))
	}
}

// Sub takes an amount from the balance under k, or returns false, without a change, if that is less.
func (b Balances[K]) Sub(k K, amount U128) bool {
	if !amount.wide() && hostAdd(b.key(&k), -int64(amount.Lo), 0, 1<<63-1) == 0 {
		return true
	}
	have := b.Get(k)
	if have.Less(amount) {
		return false
	}
	b.Set(k, have.Sub(amount))
	return true
}

// keyEncodable and keyDecodable are what the builder adds to the contract's types that are used as keys.
type keyEncodable interface{ AppendKey(b []byte) []byte }

type keyDecodable interface {
	DecodeKey(b []byte) (rest []byte, ok bool)
}

// AppendKeyUint appends an integer of the given width in bytes to a key, so that keys sort as numbers do.
func AppendKeyUint(b []byte, n uint64, width int) []byte {
	for i := width - 1; i >= 0; i-- {
		b = append(b, byte(n>>(8*i)))
	}
	return b
}

// AppendKeyInt is AppendKeyUint for signed integers, whose sign bit it inverts.
func AppendKeyInt(b []byte, n int64, width int) []byte {
	return AppendKeyUint(b, uint64(n)^1<<(8*width-1), width)
}

// KeyUint reads what AppendKeyUint wrote; it returns nil for the rest when b is too short.
func KeyUint(b []byte, width int) (n uint64, rest []byte, ok bool) {
	if len(b) < width {
		return 0, nil, false
	}
	for _, x := range b[:width] {
		n = n<<8 | uint64(x)
	}
	return n, b[width:], true
}

// KeyInt reads what AppendKeyInt wrote.
func KeyInt(b []byte, width int) (n int64, rest []byte, ok bool) {
	u, rest, ok := KeyUint(b, width)
	shift := 64 - 8*width
	return int64((u^1<<(8*width-1))<<shift) >> shift, rest, ok
}

// KeyFixed reads len(dst) bytes of a key into dst.
func KeyFixed(b, dst []byte) (rest []byte, ok bool) {
	if len(b) < len(dst) {
		return nil, false
	}
	copy(dst, b)
	return b[len(dst):], true
}

func appendKey(b []byte, k any) []byte {
	switch k := k.(type) {
	case *Addr:
		return append(b, k[:]...)
	case *Hash:
		return append(b, k[:]...)
	case *string:
		return append(b, *k...)
	case *[]byte:
		return append(b, *k...)
	case *uint8:
		return append(b, *k)
	case *uint16:
		return AppendKeyUint(b, uint64(*k), 2)
	case *uint32:
		return AppendKeyUint(b, uint64(*k), 4)
	case *uint64:
		return AppendKeyUint(b, *k, 8)
	case *int8:
		return AppendKeyInt(b, int64(*k), 1)
	case *int16:
		return AppendKeyInt(b, int64(*k), 2)
	case *int32:
		return AppendKeyInt(b, int64(*k), 4)
	case *int64:
		return AppendKeyInt(b, *k, 8)
	case *U128:
		return append64(append64(b, k.Hi), k.Lo)
	case keyEncodable:
		return k.AppendKey(b)
	}
	return appendKeyOther(b, k)
}

// decodeKey reads a whole key into what k points to.
func decodeKey(b []byte, k any) bool {
	var n uint64
	var s int64
	ok := true
	switch k := k.(type) {
	case *Addr:
		b, ok = KeyFixed(b, k[:])
	case *Hash:
		b, ok = KeyFixed(b, k[:])
	case *string:
		*k, b = string(b), nil
	case *[]byte:
		*k, b = append([]byte(nil), b...), nil
	case *uint8:
		n, b, ok = KeyUint(b, 1)
		*k = uint8(n)
	case *uint16:
		n, b, ok = KeyUint(b, 2)
		*k = uint16(n)
	case *uint32:
		n, b, ok = KeyUint(b, 4)
		*k = uint32(n)
	case *uint64:
		*k, b, ok = KeyUint(b, 8)
	case *int8:
		s, b, ok = KeyInt(b, 1)
		*k = int8(s)
	case *int16:
		s, b, ok = KeyInt(b, 2)
		*k = int16(s)
	case *int32:
		s, b, ok = KeyInt(b, 4)
		*k = int32(s)
	case *int64:
		*k, b, ok = KeyInt(b, 8)
	case *U128:
		if k.Hi, b, ok = KeyUint(b, 8); ok {
			k.Lo, b, ok = KeyUint(b, 8)
		}
	case keyDecodable:
		b, ok = k.DecodeKey(b)
	default:
		b, ok = decodeKeyOther(b, k)
	}
	return ok && len(b) == 0
}
