package main

import (
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	var r results
	for _, v := range []float64{3, 1, 2} {
		r.add(host, []row{{"getppid", v, "us"}, {"memcpy_bw", 1000 * v, "MB/s"}})
		r.add(classic, []row{{"getppid", 10 * v, "us"}, {"tcp_bw", v, "MB/s"}})
		r.add(ours, []row{{"getppid", 6 * v, "us"}, {"memcpy_bw", 900 * v, "MB/s"}})
	}
	got := r.table(false)
	for _, want := range []string{
		"| 2 (1-3)", "| 12.0 (6-18.0)", "| FAIL uml 0.5 |", // getppid: 12 of 20
		"| 1.11 ", "| ok host 1.3 ", // throughput: less is slower
		"| skipped ", // tcp_bw
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name                     string
		value, toHost, toClassic float64
		want                     string
	}{
		{"anon_page_fault", 1, 1.2, 0.05, "ok host 1.3, uml 0.06"},
		{"anon_page_fault", 1, 1.4, 0.05, "FAIL host 1.3, uml 0.06"},
		{"anon_page_fault", 1, 1.2, 0, "ok host 1.3"},
		{"unix_bw", 1, 9, 1.1, "FAIL uml 1"},
		{"boot_rss", 61, 0, 3, "FAIL 60"},
		{"unix_bw", 1, 9, 0, ""},
	} {
		if got := verdict(c.name, c.value, c.toHost, c.toClassic); got != c.want {
			t.Errorf("verdict(%s, %v, %v, %v) = %q, want %q", c.name, c.value, c.toHost, c.toClassic, got, c.want)
		}
	}
}
