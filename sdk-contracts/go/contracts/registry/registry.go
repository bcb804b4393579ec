// Package registry is a contract: keys with values, each key owned by who wrote it first.
package registry

import (
	"math"
	"strings"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

// Registry keeps entries in the order of their keys.
type Registry struct{}

// Version is the contract's, which its schema tells.
const Version = "1.0.0"

var (
	entries = sdk.NewMap[string, Entry]("entry")
	count   = sdk.NewCounter("count")
)

// Entry is what is kept under a key.
type Entry struct {
	Owner   sdk.Addr
	Value   []byte
	Updated uint64 // block time, Unix ms
}

// Item is an entry with its key.
type Item struct {
	Key   string
	Entry Entry
}

// Page is a part of the entries, and the key of the next one.
type Page struct {
	Items []Item
	Next  *string
}

// Written is emitted when an entry is made or changed.
//
//chain:event indexed=key,owner
type Written struct {
	sdk.Event
	Key   string
	Owner sdk.Addr
	Value []byte
}

// Removed is emitted when an entry is gone.
//
//chain:event indexed=key,owner
type Removed struct {
	sdk.Event
	Key   string
	Owner sdk.Addr
}

// NotOwner refuses a write to what is somebody else's.
//
//chain:error 1001
type NotOwner struct {
	sdk.Refusal
	Key   string
	Owner sdk.Addr
}

// NoSuchKey refuses to remove what is not there.
//
//chain:error 1002
type NoSuchKey struct {
	sdk.Refusal
	Key string
}

// BadKey refuses a key of no or too many bytes.
//
//chain:error 1003
type BadKey struct {
	sdk.Refusal
	Length uint32
}

// BadLimit refuses a page of no or too many entries.
//
//chain:error 1004
type BadLimit struct {
	sdk.Refusal
	Limit, Most uint32
}

const (
	longestKey  = 64
	largestPage = 100
)

// Init has nothing to prepare.
//
//chain:init
func (Registry) Init(sdk.Ctx) {}

// Put writes an entry of the caller's.
//
//chain:tx conflicts=entry/{key}
func (Registry) Put(c sdk.Ctx, key string, value []byte) error {
	if len(key) == 0 || len(key) > longestKey {
		return BadKey{Length: uint32(len(key))}
	}
	before, exists := entries.Lookup(key)
	if exists && before.Owner != c.Caller() {
		return NotOwner{Key: key, Owner: before.Owner}
	}
	entries.Set(key, Entry{Owner: c.Caller(), Value: value, Updated: c.TimeMilli()})
	if !exists {
		count.Add(1, 0, math.MaxInt64)
	}
	c.Emit(Written{Key: key, Owner: c.Caller(), Value: value})
	return nil
}

// Remove takes an entry of the caller's away.
//
//chain:tx conflicts=entry/{key}
func (Registry) Remove(c sdk.Ctx, key string) error {
	entry, exists := entries.Lookup(key)
	switch {
	case !exists:
		return NoSuchKey{Key: key}
	case entry.Owner != c.Caller():
		return NotOwner{Key: key, Owner: entry.Owner}
	}
	entries.Delete(key)
	count.Add(-1, 0, math.MaxInt64)
	c.Emit(Removed{Key: key, Owner: entry.Owner})
	return nil
}

// Get returns an entry, or nothing.
//
//chain:view
func (Registry) Get(_ sdk.Ctx, key string) *Entry {
	entry, exists := entries.Lookup(key)
	if !exists {
		return nil
	}
	return &entry
}

// List returns at most limit entries whose keys begin with prefix, from the key from on.
//
//chain:view
func (Registry) List(_ sdk.Ctx, prefix string, from *string, limit uint32) (Page, error) {
	if limit == 0 || limit > largestPage {
		return Page{}, BadLimit{Limit: limit, Most: largestPage}
	}
	start := prefix
	if from != nil {
		start = max(prefix, *from)
	}
	var page Page
	for key, entry := range entries.From(start, limit+1) {
		if !strings.HasPrefix(key, prefix) {
			break
		}
		if len(page.Items) == int(limit) {
			page.Next = &key
			break
		}
		page.Items = append(page.Items, Item{key, entry})
	}
	return page, nil
}

// Count returns the number of entries.
//
//chain:view
func (Registry) Count(sdk.Ctx) int64 { return count.Get() }
