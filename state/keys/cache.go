package keys

import "sync"

// cachedKeys bounds each of the two generations of a suite's cache of parsed keys, at 1.6 kB an Ed25519 key and 0.65 kB one of SM2.
const cachedKeys = 8192

// keyCache keeps the keys that were parsed last: decompressing a point, and what is computed once for a key, costs a third
// of checking a signature. It holds two generations; when the younger is full it becomes the older one, and
// what was in the older and not asked for since is forgotten.
type keyCache[K PublicKey] struct {
	parse func(canonical []byte) (K, error)
	size  int // of a canonical form, in bytes
	limit int

	mu             sync.Mutex // guards the maps, by canonical form
	younger, older map[string]K
}

func newKeyCache[K PublicKey](limit, size int, parse func(canonical []byte) (K, error)) *keyCache[K] {
	return &keyCache[K]{limit: limit, size: size, parse: parse}
}

// get returns the parsed key. Bytes that are no key are parsed anew each time.
func (c *keyCache[K]) get(canonical []byte) (PublicKey, error) {
	if len(canonical) == c.size { // others are none, and may be long: contracts choose them
		if key, ok := c.find(canonical); ok {
			return key, nil
		}
	}
	key, err := c.parse(canonical)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.put(key)
	return key, nil
}

func (c *keyCache[K]) find(canonical []byte) (key K, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if key, ok = c.younger[string(canonical)]; !ok {
		if key, ok = c.older[string(canonical)]; ok {
			c.put(key)
		}
	}
	return key, ok
}

// put is called with the lock held.
func (c *keyCache[K]) put(key K) {
	if c.younger == nil || len(c.younger) >= c.limit {
		c.older, c.younger = c.younger, make(map[string]K)
	}
	c.younger[string(key.Bytes())] = key
}
