package registry

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	sdk "github.com/fondaco/fondaco/sdk-contracts/go"
)

var alice, bob = sdk.Addr{1}, sdk.Addr{2}

func put(host *sdk.Fake, key string) error {
	return host.Run(func(c sdk.Ctx) error { return Registry{}.Put(c, key, []byte(key)) })
}

func remove(host *sdk.Fake, key string) error {
	return host.Run(func(c sdk.Ctx) error { return Registry{}.Remove(c, key) })
}

func TestOwner(t *testing.T) {
	host := &sdk.Fake{Caller: alice, TimeMilli: 5}
	if err := put(host, "k"); err != nil {
		t.Fatal(err)
	}
	host.Caller = bob
	for _, err := range []error{put(host, "k"), remove(host, "k")} {
		if !errors.Is(err, NotOwner{Key: "k", Owner: alice}) {
			t.Errorf("%v, want NotOwner", err)
		}
	}
	if err := remove(host, "l"); !errors.Is(err, NoSuchKey{Key: "l"}) {
		t.Errorf("%v, want NoSuchKey", err)
	}
	host.Caller = alice
	if err := errors.Join(put(host, "k"), remove(host, "k")); err != nil {
		t.Fatal(err)
	}
	if err := host.Run(func(c sdk.Ctx) error {
		if n, e := (Registry{}).Count(c), (Registry{}).Get(c, "k"); n != 0 || e != nil {
			t.Errorf("after removal there are %d entries, and k is %v", n, e)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

func TestKeys(t *testing.T) {
	host := &sdk.Fake{}
	if err := put(host, strings.Repeat("k", longestKey)); err != nil {
		t.Error(err)
	}
	for _, n := range []int{0, longestKey + 1} {
		if err := put(host, strings.Repeat("k", n)); !errors.Is(err, BadKey{Length: uint32(n)}) {
			t.Errorf("a key of %d bytes: %v", n, err)
		}
	}
}

func TestList(t *testing.T) {
	host := &sdk.Fake{Caller: alice}
	for _, key := range []string{"b/2", "a", "b/1", "b/3", "b0", "c"} {
		if err := put(host, key); err != nil {
			t.Fatal(err)
		}
	}
	list := func(prefix string, from *string, limit uint32) (keys []string, next *string) {
		t.Helper()
		if err := host.Run(func(c sdk.Ctx) error {
			page, err := Registry{}.List(c, prefix, from, limit)
			for _, item := range page.Items {
				keys = append(keys, item.Key)
			}
			next = page.Next
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return keys, next
	}
	keys, next := list("b/", nil, 2)
	if want := []string{"b/1", "b/2"}; !reflect.DeepEqual(keys, want) || next == nil || *next != "b/3" {
		t.Fatalf("the first page is %q, then %v", keys, next)
	}
	if keys, next = list("b/", next, 2); !reflect.DeepEqual(keys, []string{"b/3"}) || next != nil {
		t.Errorf("the second page is %q, then %v", keys, next)
	}
	if keys, next = list("", nil, 6); len(keys) != 6 || next != nil {
		t.Errorf("all are %q, then %v", keys, next)
	}
	for _, limit := range []uint32{0, largestPage + 1} {
		err := host.Run(func(c sdk.Ctx) error { _, err := Registry{}.List(c, "", nil, limit); return err })
		if !errors.Is(err, BadLimit{Limit: limit, Most: largestPage}) {
			t.Errorf("a limit of %d: %v", limit, err)
		}
	}
}
