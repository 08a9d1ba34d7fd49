package tc

import (
	"fmt"
	"strconv"
	"strings"
)

// units of rates: bits a second, or bytes with "bps".
var rateUnits = []struct {
	suffix string
	scale  float64 // bytes a second
}{
	{"bit", 1. / 8}, {"kbit", 1e3 / 8}, {"mbit", 1e6 / 8}, {"gbit", 1e9 / 8}, {"tbit", 1e12 / 8},
	{"kibit", 1024. / 8}, {"mibit", 1 << 20 / 8}, {"gibit", 1 << 30 / 8},
	{"bps", 1}, {"kbps", 1e3}, {"mbps", 1e6}, {"gbps", 1e9}, {"kibps", 1024}, {"mibps", 1 << 20},
	{"", 1. / 8},
}

// rate reads a rate in tc's units ("10mbit", "1gbit", "100kbps") as bytes a
// second.
func rate(s string) (uint64, error) {
	v, unit, err := split(s)
	if err == nil {
		for _, u := range rateUnits {
			if u.suffix == unit {
				return uint64(v * u.scale), nil
			}
		}
	}
	return 0, fmt.Errorf("tc: %q is not a rate (like 10mbit, 1gbit, 100kbps)", s)
}

// size reads a size in tc's units ("15k", "1mb") as bytes.
func size(s string) (uint64, error) {
	v, unit, err := split(s)
	if err == nil {
		switch unit {
		case "", "b":
			return uint64(v), nil
		case "k", "kb":
			return uint64(v * 1024), nil
		case "m", "mb":
			return uint64(v * (1 << 20)), nil
		case "kbit":
			return uint64(v * 1024 / 8), nil
		case "mbit":
			return uint64(v * (1 << 20) / 8), nil
		}
	}
	return 0, fmt.Errorf("tc: %q is not a size (like 1500, 15k, 1mb)", s)
}

func split(s string) (float64, string, error) {
	s = strings.ToLower(s)
	k := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if k < 0 {
		k = len(s)
	}
	v, err := strconv.ParseFloat(s[:k], 64)
	return v, s[k:], err
}

// showRate prints bytes a second as tc does: bits, in the largest unit that
// leaves a whole number.
func showRate(bytes uint64) string {
	v := bytes * 8
	for _, u := range []string{"bit", "Kbit", "Mbit", "Gbit"} {
		if v < 1000 || v%1000 != 0 || u == "Gbit" {
			return strconv.FormatUint(v, 10) + u
		}
		v /= 1000
	}
	return ""
}

// showSize prints bytes as tc does.
func showSize(n uint64) string {
	switch {
	case n >= 1<<20 && n%(1<<20) == 0:
		return fmt.Sprintf("%dMb", n>>20)
	case n >= 1<<10 && n%(1<<10) == 0:
		return fmt.Sprintf("%dKb", n>>10)
	}
	return fmt.Sprintf("%db", n)
}
