package settle

import (
	"encoding/binary"

	"fallow.network"
)

// Prefixes of the keys that doc.go lists.
const (
	atParams byte = iota
	atNext
	atAccount
	atLease
	atTenant
	atProvider
	atTenantOpen
	atProviderOpen
	atService
	atClaim
	atEnd
	atQueue
	atPayout
	atDue
	atUsed
	atHeld
)

// mark is the value of keys that say all by themselves.
var mark = []byte{1}

func key(prefix byte) []byte { return []byte{prefix} }

func withAccount(b []byte, a fallow.Account) []byte {
	return append(append(b, byte(len(a))), a...)
}

func withNumber(b []byte, n uint64) []byte { return binary.BigEndian.AppendUint64(b, n) }

func accountKey(a fallow.Account) []byte { return withAccount(key(atAccount), a) }

func leaseKey(id fallow.LeaseID) []byte { return withNumber(key(atLease), uint64(id)) }

// indexKey is a lease below an account, under atTenant to atService.
func indexKey(prefix byte, a fallow.Account, id fallow.LeaseID) []byte {
	return withNumber(withAccount(key(prefix), a), uint64(id))
}

// timedKey is a lease below an account by time, under atClaim and atEnd.
func timedKey(prefix byte, a fallow.Account, t fallow.Time, id fallow.LeaseID) []byte {
	return withNumber(withNumber(withAccount(key(prefix), a), uint64(t)), uint64(id))
}

// queueKey is an account by time, under atQueue and atDue.
func queueKey(prefix byte, t fallow.Time, a fallow.Account) []byte {
	return withAccount(withNumber(key(prefix), uint64(t)), a)
}

func payoutKey(provider fallow.Account, t fallow.Time) []byte {
	return withNumber(withAccount(key(atPayout), provider), uint64(t))
}

func usedKey(last fallow.Height, offer fallow.Digest) []byte {
	return append(withNumber(key(atUsed), uint64(last)), offer[:]...)
}

func heldKey(provider fallow.Account) []byte { return withAccount(key(atHeld), provider) }

// lastNumber reads the number that ends a key.
func lastNumber(k []byte) uint64 { return binary.BigEndian.Uint64(k[len(k)-8:]) }

// numberAt reads the number that begins at i.
func numberAt(k []byte, i int) uint64 { return binary.BigEndian.Uint64(k[i : i+8]) }

// afterPrefix is the first key behind all that begin with prefix.
func afterPrefix(prefix []byte) []byte {
	end := append([]byte{}, prefix...)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i]++; end[i] != 0 {
			return end[:i+1]
		}
	}
	return nil
}
