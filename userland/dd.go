package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
)

func dd(args []string) int {
	in, out := io.Reader(os.Stdin), os.Stdout
	bs, cnt, skip, seek := int64(512), int64(-1), int64(0), int64(0)
	conv, ofile := "", ""
	quiet := false
	for _, a := range args {
		k, v, _ := strings.Cut(a, "=")
		n, err := sizeOf(v)
		switch k {
		case "bs", "ibs", "obs":
			bs = n
		case "count":
			cnt = n
		case "skip", "iseek":
			skip = n
		case "seek", "oseek":
			seek = n
		case "conv":
			conv, err = v, nil
		case "status":
			quiet, err = v == "none", nil
		case "if":
			f, e := os.Open(v)
			if err = e; e == nil {
				in = f
			}
		case "of":
			ofile, err = v, nil
		default:
			err = fmt.Errorf("unknown operand %q", a)
		}
		if err != nil {
			return fail(err)
		}
	}
	if bs < 1 || bs > 1<<30 || seek < 0 || skip < 0 {
		return fail(errors.New("invalid number"))
	}
	if ofile != "" {
		flags := os.O_WRONLY | os.O_CREATE
		if !strings.Contains(conv, "notrunc") && seek == 0 {
			flags |= os.O_TRUNC
		}
		f, err := os.OpenFile(ofile, flags, 0o666)
		if err != nil {
			return fail(err)
		}
		if seek > 0 && !strings.Contains(conv, "notrunc") {
			f.Truncate(seek * bs)
		}
		out = f
	}
	if seek > 0 {
		if _, err := out.Seek(seek*bs, io.SeekStart); err != nil {
			return fail(err)
		}
	}
	if skip > 0 {
		s, ok := in.(io.Seeker)
		var err error
		if ok {
			_, err = s.Seek(skip*bs, io.SeekCurrent)
		}
		if !ok || err != nil {
			_, err = io.CopyN(io.Discard, in, skip*bs)
		}
		if err != nil && err != io.EOF {
			return fail(err)
		}
	}
	start := time.Now()
	buf := make([]byte, bs)
	var full, part, bytes int64
	for cnt < 0 || full+part < cnt {
		n, err := in.Read(buf)
		if n > 0 {
			if int64(n) == bs {
				full++
			} else {
				part++
			}
			p := buf[:n]
			if strings.Contains(conv, "sync") && !strings.Contains(conv, "fsync") && int64(n) < bs {
				clear(buf[n:])
				p = buf
			}
			w, werr := out.Write(p)
			bytes += int64(w)
			if werr != nil {
				return fail(werr)
			}
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fail(err)
		}
	}
	if strings.Contains(conv, "fsync") {
		if err := out.Sync(); err != nil {
			return fail(err)
		}
	}
	if err := out.Close(); err != nil {
		return fail(err)
	}
	if !quiet {
		sec := time.Since(start).Seconds()
		fmt.Fprintf(os.Stderr, "%d+%d records in\n%d+%d records out\n%d bytes copied, %.3f s, %s/s\n", full, part, full, part, bytes, sec, sizeString(int64(float64(bytes)/max(sec, 1e-9)), true))
	}
	return 0
}

// sizeOf reads a number with a suffix (k, K, M, G).
func sizeOf(s string) (int64, error) {
	unit := int64(1)
	if i := strings.IndexAny(s, "kKMGb"); i > 0 {
		unit = map[byte]int64{'k': 1 << 10, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30, 'b': 512}[s[i]]
		s = s[:i]
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("invalid number %q", s)
	}
	return n * unit, nil
}
