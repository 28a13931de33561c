package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

func echo(args []string) int {
	newline := true
	if len(args) > 0 && args[0] == "-n" {
		newline, args = false, args[1:]
	}
	stdout.WriteString(strings.Join(args, " "))
	if newline {
		stdout.WriteByte('\n')
	}
	return 0
}

func yes(args []string) int {
	line := "y"
	if len(args) > 0 {
		line = strings.Join(args, " ")
	}
	for {
		if _, err := stdout.WriteString(line + "\n"); err != nil {
			return 1
		}
	}
}

// count reads "5", "-5" or "+5".
func count(s string) (n int, sign byte, err error) {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign, s = s[0], s[1:]
	}
	n, err = strconv.Atoi(s)
	if err != nil || n < 0 {
		err = fmt.Errorf("invalid number %q", s)
	}
	return n, sign, err
}

// oldCount turns a first argument "-5" into "-n5".
func oldCount(args []string) []string {
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && '0' <= args[0][1] && args[0][1] <= '9' {
		return append([]string{"-n" + args[0][1:]}, args[1:]...)
	}
	return args
}

func head(args []string) int {
	o, names, err := getopt(oldCount(args), "n:c:q")
	if err != nil {
		return fail(err)
	}
	n, c := 10, -1
	if v, ok := o['n']; ok {
		if n, _, err = count(v); err != nil {
			return fail(err)
		}
	}
	if v, ok := o['c']; ok {
		if c, _, err = count(v); err != nil {
			return fail(err)
		}
	}
	return inputs(names, func(name string, r io.Reader) error {
		if len(names) > 1 && !o.has('q') {
			fmt.Fprintf(stdout, "==> %s <==\n", name)
		}
		if c >= 0 {
			_, err := io.CopyN(stdout, r, int64(c))
			if err == io.EOF {
				err = nil
			}
			return err
		}
		left := n
		if left == 0 {
			return nil
		}
		return lines(r, func(s string) bool {
			stdout.WriteString(s + "\n")
			left--
			return left > 0
		})
	})
}

func tail(args []string) int {
	o, names, err := getopt(oldCount(args), "n:c:fq")
	if err != nil {
		return fail(err)
	}
	n, sign, bytesWanted := 10, byte(0), false
	for _, k := range []byte{'n', 'c'} {
		if v, ok := o[k]; ok {
			if n, sign, err = count(v); err != nil {
				return fail(err)
			}
			bytesWanted = k == 'c'
		}
	}
	return inputs(names, func(name string, r io.Reader) error {
		if len(names) > 1 && !o.has('q') {
			fmt.Fprintf(stdout, "==> %s <==\n", name)
		}
		if err := tailOf(r, n, sign == '+', bytesWanted); err != nil || !o.has('f') {
			return err
		}
		return follow(r)
	})
}

func tailOf(r io.Reader, n int, from, inBytes bool) error {
	if inBytes {
		data, err := io.ReadAll(r)
		if from {
			stdout.Write(data[min(max(n-1, 0), len(data)):])
		} else {
			stdout.Write(data[max(0, len(data)-n):])
		}
		return err
	}
	if from {
		i := 0
		return lines(r, func(s string) bool {
			if i++; i >= n {
				stdout.WriteString(s + "\n")
			}
			return true
		})
	}
	var last []string
	err := lines(r, func(s string) bool {
		if last = append(last, s); len(last) > 2*n+1024 {
			last = slices.Clone(last[len(last)-n:])
		}
		return true
	})
	for _, s := range last[max(0, len(last)-n):] {
		stdout.WriteString(s + "\n")
	}
	return err
}

func tee(args []string) int {
	o, names, err := getopt(args, "ai")
	if err != nil {
		return fail(err)
	}
	flags := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	if o.has('a') {
		flags = os.O_WRONLY | os.O_CREATE | os.O_APPEND
	}
	writers := []io.Writer{os.Stdout}
	status := each(names, func(n string) error {
		f, err := os.OpenFile(n, flags, 0o666)
		if err == nil {
			writers = append(writers, f)
		}
		return err
	})
	if _, err := io.Copy(io.MultiWriter(writers...), os.Stdin); err != nil {
		return fail(err)
	}
	return status
}

func wc(args []string) int {
	o, names, err := getopt(args, "clmwL")
	if err != nil {
		return fail(err)
	}
	if len(o) == 0 {
		o = options{'l': "", 'w': "", 'c': ""}
	}
	var total [5]int
	show := func(c [5]int, name string) {
		var f []string
		for i, k := range []byte("lwmcL") {
			if o.has(k) {
				f = append(f, strconv.Itoa(c[i]))
			}
		}
		if len(f) > 1 {
			for i := range f {
				f[i] = fmt.Sprintf("%7s", f[i])
			}
		}
		if name != "-" {
			f = append(f, name)
		}
		stdout.WriteString(strings.Join(f, " ") + "\n")
	}
	status := inputs(names, func(name string, r io.Reader) error {
		var c [5]int
		buf := make([]byte, 64<<10)
		inWord, col := false, 0
		for {
			n, err := r.Read(buf)
			for _, b := range buf[:n] {
				if b == '\n' {
					c[0]++
					c[4] = max(c[4], col)
					col = -1
				}
				col++
				space := b == ' ' || '\t' <= b && b <= '\r'
				if inWord && space || !inWord && !space {
					if inWord = !space; inWord {
						c[1]++
					}
				}
				if utf8.RuneStart(b) {
					c[2]++
				}
			}
			c[3] += n
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		for i := range c {
			total[i] += c[i]
		}
		show(c, name)
		return nil
	})
	if len(names) > 1 {
		show(total, "total")
	}
	return status
}

func grep(args []string) int {
	o, names, err := getopt(args, "EFGHce:hilnoqrRsvwxm:A:B:")
	if err != nil {
		fail(err)
		return 2
	}
	pattern, ok := o['e']
	if !ok {
		if len(names) == 0 {
			usage("[-EFHchilnoqrsvwx] [-m count] pattern [file...]")
			return 2
		}
		pattern, names = names[0], names[1:]
	}
	re, err := grepPattern(o, pattern)
	if err != nil {
		fail(err)
		return 2
	}
	limit := -1
	if m, ok := o['m']; ok {
		if limit, _, err = count(m); err != nil {
			fail(err)
			return 2
		}
	}
	var after int
	if a, ok := o['A']; ok {
		if after, _, err = count(a); err != nil {
			fail(err)
			return 2
		}
	}
	deep := o.has('r') || o.has('R')
	var files []string
	status := 0
	if deep {
		if len(names) == 0 {
			names = []string{"."}
		}
		for _, n := range names {
			err := filepath.WalkDir(n, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.Type().IsRegular() {
					files = append(files, path)
				}
				if err != nil && !o.has('s') {
					fail(err)
					status = 2
				}
				return nil
			})
			if err != nil {
				status = 2
			}
		}
		if len(files) == 0 {
			return max(1, status)
		}
	} else {
		files = names
	}
	withName := (len(files) > 1 || deep || o.has('H')) && !o.has('h')
	found := false
	bad := inputs(files, func(name string, r io.Reader) error {
		n, no, show := 0, 0, 0
		prefix := ""
		if withName {
			prefix = name + ":"
		}
		err := lines(r, func(s string) bool {
			no++
			match := re.MatchString(s) != o.has('v')
			if !match && show == 0 {
				return true
			}
			if match {
				found = true
				n++
				show = after
			} else {
				show--
			}
			if o.has('q') || o.has('l') {
				return false
			}
			if !o.has('c') {
				number := ""
				if o.has('n') {
					number = strconv.Itoa(no) + ":"
				}
				if o.has('o') && !o.has('v') {
					for _, m := range re.FindAllString(s, -1) {
						stdout.WriteString(prefix + number + m + "\n")
					}
				} else {
					stdout.WriteString(prefix + number + s + "\n")
				}
			}
			return n != limit
		})
		if o.has('c') && !o.has('q') {
			fmt.Fprintf(stdout, "%s%d\n", prefix, n)
		}
		if o.has('l') && n > 0 {
			stdout.WriteString(name + "\n")
		}
		return err
	})
	switch {
	case found && (bad == 0 || o.has('q')):
		return 0
	case bad != 0 || status != 0:
		return 2
	}
	return 1
}

// grepPattern compiles a pattern. Basic expressions become extended ones by exchanging the meaning of \( and (.
func grepPattern(o options, pattern string) (*regexp.Regexp, error) {
	alternatives := strings.Split(pattern, "\n")
	for i, p := range alternatives {
		switch {
		case o.has('F'):
			alternatives[i] = regexp.QuoteMeta(p)
		case !o.has('E'):
			alternatives[i] = extended(p)
		}
	}
	p := "(?:" + strings.Join(alternatives, "|") + ")"
	if o.has('w') {
		p = `\b` + p + `\b`
	}
	if o.has('x') {
		p = "^" + p + "$"
	}
	if o.has('i') {
		p = "(?i)" + p
	}
	return regexp.Compile(p)
}

func extended(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		switch c := p[i]; {
		case c == '\\' && i+1 < len(p):
			i++
			switch p[i] {
			case '(', ')', '{', '}', '|', '+', '?':
				b.WriteByte(p[i])
			case '<', '>':
				b.WriteString(`\b`)
			default:
				b.WriteByte('\\')
				b.WriteByte(p[i])
			}
		case strings.IndexByte("(){}|+?", c) >= 0, c == '*' && i == 0:
			b.WriteByte('\\')
			b.WriteByte(c)
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func sortMain(args []string) int {
	o, names, err := getopt(args, "bfnruk:t:o:hV")
	if err != nil {
		return fail(err)
	}
	var all []string
	status := inputs(names, func(_ string, r io.Reader) error {
		return lines(r, func(s string) bool { all = append(all, s); return true })
	})
	field := 0
	numeric, reverse := o.has('n') || o.has('h'), o.has('r')
	if k, ok := o['k']; ok {
		if strings.HasSuffix(k, "n") {
			numeric, k = true, strings.TrimSuffix(k, "n")
		}
		k, _, _ = strings.Cut(k, ",")
		if field, err = strconv.Atoi(k); err != nil || field < 1 {
			return fail(fmt.Errorf("invalid key %q", o['k']))
		}
	}
	key := func(s string) string {
		if field > 0 {
			var f []string
			if t, ok := o['t']; ok && t != "" {
				f = strings.Split(s, t)
			} else {
				f = strings.Fields(s)
			}
			if field > len(f) {
				s = ""
			} else {
				s = f[field-1]
			}
		}
		if o.has('b') {
			s = strings.TrimLeft(s, " \t")
		}
		if o.has('f') {
			s = strings.ToUpper(s)
		}
		return s
	}
	byKey := func(a, b string) int {
		a, b = key(a), key(b)
		if numeric {
			return cmp.Compare(leadingNumber(a), leadingNumber(b))
		}
		return strings.Compare(a, b)
	}
	slices.SortStableFunc(all, func(a, b string) int {
		c := byKey(a, b)
		if c == 0 && !o.has('u') {
			c = strings.Compare(a, b)
		}
		if reverse {
			c = -c
		}
		return c
	})
	if o.has('u') {
		all = slices.CompactFunc(all, func(a, b string) bool { return byKey(a, b) == 0 })
	}
	out := io.Writer(stdout)
	if name, ok := o['o']; ok {
		f, err := os.Create(name)
		if err != nil {
			return fail(err)
		}
		defer f.Close()
		out = f
	}
	var buf bytes.Buffer
	for _, s := range all {
		buf.WriteString(s + "\n")
	}
	if _, err := out.Write(buf.Bytes()); err != nil {
		return fail(err)
	}
	return status
}

// leadingNumber is the number at the start of s, with a size suffix if it has one.
func leadingNumber(s string) float64 {
	s = strings.TrimLeft(s, " \t")
	i := 0
	for i < len(s) && (s[i] == '-' && i == 0 || s[i] == '.' || '0' <= s[i] && s[i] <= '9') {
		i++
	}
	f, _ := strconv.ParseFloat(s[:i], 64)
	if i < len(s) {
		for j := strings.IndexByte("KMGTPE", s[i]); j >= 0; j-- {
			f *= 1024
		}
	}
	return f
}

func uniq(args []string) int {
	o, names, err := getopt(args, "cdui")
	if err != nil {
		return fail(err)
	}
	if len(names) > 1 {
		names = names[:1]
	}
	prev, n := "", 0
	flush := func() {
		if n == 0 || o.has('d') && n < 2 || o.has('u') && n > 1 {
			return
		}
		if o.has('c') {
			fmt.Fprintf(stdout, "%7d ", n)
		}
		stdout.WriteString(prev + "\n")
	}
	status := inputs(names, func(_ string, r io.Reader) error {
		return lines(r, func(s string) bool {
			if n > 0 && (s == prev || o.has('i') && strings.EqualFold(s, prev)) {
				n++
				return true
			}
			flush()
			prev, n = s, 1
			return true
		})
	})
	flush()
	return status
}

func cut(args []string) int {
	o, names, err := getopt(args, "b:c:d:f:s")
	if err != nil {
		return fail(err)
	}
	spec, byField := o['f'], true
	if spec == "" {
		spec, byField = o['c']+o['b'], false
	}
	var ranges [][2]int
	for r := range strings.SplitSeq(spec, ",") {
		a, b, dash := strings.Cut(r, "-")
		from, to := 1, 1<<30
		if a != "" {
			from, err = strconv.Atoi(a)
		}
		if b != "" && err == nil {
			to, err = strconv.Atoi(b)
		}
		if !dash {
			to = from
		}
		if err != nil || from < 1 || r == "" {
			return fail(fmt.Errorf("invalid list %q", spec))
		}
		ranges = append(ranges, [2]int{from, to})
	}
	wanted := func(n int) bool {
		return slices.ContainsFunc(ranges, func(r [2]int) bool { return r[0] <= n && n <= r[1] })
	}
	sep := "\t"
	if d, ok := o['d']; ok && d != "" {
		sep = d
	}
	return inputs(names, func(_ string, r io.Reader) error {
		return lines(r, func(s string) bool {
			parts, glue := strings.Split(s, ""), ""
			if byField {
				parts, glue = strings.Split(s, sep), sep
				if len(parts) == 1 {
					if !o.has('s') {
						stdout.WriteString(s + "\n")
					}
					return true
				}
			}
			var out []string
			for i, p := range parts {
				if wanted(i + 1) {
					out = append(out, p)
				}
			}
			stdout.WriteString(strings.Join(out, glue) + "\n")
			return true
		})
	})
}

func tr(args []string) int {
	o, names, err := getopt(args, "+cds")
	if err != nil {
		return fail(err)
	}
	if len(names) < 1 || len(names) > 2 {
		return usage("[-cds] set1 [set2]")
	}
	from := trSet(names[0])
	var in [256]bool
	for _, c := range from {
		in[c] = true
	}
	if o.has('c') {
		from = from[:0]
		for c := range 256 {
			if in[c] = !in[c]; in[c] {
				from = append(from, byte(c))
			}
		}
	}
	var to []byte
	if len(names) == 2 {
		to = trSet(names[1])
	}
	var table [256]byte
	for i := range table {
		table[i] = byte(i)
	}
	squeeze := in
	if len(to) > 0 && !o.has('d') {
		squeeze = [256]bool{}
		for i, c := range from {
			table[c] = to[min(i, len(to)-1)]
			squeeze[table[c]] = true
		}
	}
	last := -1
	return inputs(nil, func(_ string, r io.Reader) error {
		buf := make([]byte, 32<<10)
		for {
			n, err := r.Read(buf)
			for _, c := range buf[:n] {
				if o.has('d') && in[c] {
					continue
				}
				c = table[c]
				if o.has('s') && !o.has('d') && squeeze[c] && int(c) == last {
					continue
				}
				last = int(c)
				stdout.WriteByte(c)
			}
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
		}
	})
}

var trClasses = map[string]string{
	"lower": "abcdefghijklmnopqrstuvwxyz", "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "digit": "0123456789", "space": "\t\n\v\f\r ", "blank": " \t",
	"alpha": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	"alnum": "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
	"punct": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
}

// trSet expands ranges, classes and escapes.
func trSet(s string) []byte {
	var out []byte
	for len(s) > 0 {
		if rest, ok := strings.CutPrefix(s, "[:"); ok {
			if name, tail, ok := strings.Cut(rest, ":]"); ok && trClasses[name] != "" {
				out = append(out, trClasses[name]...)
				s = tail
				continue
			}
		}
		var c byte
		c, s = trChar(s)
		if len(s) > 1 && s[0] == '-' {
			var end byte
			end, s = trChar(s[1:])
			for x := int(c); x <= int(end); x++ {
				out = append(out, byte(x))
			}
			continue
		}
		out = append(out, c)
	}
	return out
}

func trChar(s string) (byte, string) {
	if s[0] != '\\' || len(s) < 2 {
		return s[0], s[1:]
	}
	if i := strings.IndexByte("abfnrtv\\", s[1]); i >= 0 {
		return "\a\b\f\n\r\t\v\\"[i], s[2:]
	}
	n, i := 0, 1
	for i < len(s) && i < 4 && '0' <= s[i] && s[i] <= '7' {
		n, i = n*8+int(s[i]-'0'), i+1
	}
	if i > 1 {
		return byte(n), s[i:]
	}
	return s[1], s[2:]
}

func basename(args []string) int {
	if len(args) < 1 || len(args) > 2 {
		return usage("path [suffix]")
	}
	s := filepath.Base(args[0])
	if len(args) == 2 && s != args[1] {
		s = strings.TrimSuffix(s, args[1])
	}
	stdout.WriteString(s + "\n")
	return 0
}

func dirname(args []string) int {
	for _, a := range args {
		stdout.WriteString(filepath.Dir(a) + "\n")
	}
	return 0
}

func seq(args []string) int {
	o, nums, err := getopt(args, "+s:w")
	if len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' && args[0][1] >= '0' && args[0][1] <= '9' {
		o, nums, err = options{}, args, nil
	}
	if err != nil {
		return fail(err)
	}
	v := [3]int{1, 1, 0}
	if len(nums) < 1 || len(nums) > 3 {
		return usage("[-s separator] [first [step]] last")
	}
	at := map[int][]int{1: {2}, 2: {0, 2}, 3: {0, 1, 2}}[len(nums)]
	for i, s := range nums {
		if v[at[i]], err = strconv.Atoi(s); err != nil {
			return fail(fmt.Errorf("invalid number %q", s))
		}
	}
	if v[1] == 0 {
		return fail(errors.New("the step is zero"))
	}
	sep := "\n"
	if s, ok := o['s']; ok {
		sep = s
	}
	for i, first := v[0], true; v[1] > 0 && i <= v[2] || v[1] < 0 && i >= v[2]; i += v[1] {
		if !first {
			stdout.WriteString(sep)
		}
		first = false
		stdout.WriteString(strconv.Itoa(i))
	}
	stdout.WriteByte('\n')
	return 0
}

// more shows files a page at a time: space for a page, Enter for a line, q to end.
func more(args []string) int {
	_, height, err := term.GetSize(1)
	keys, kerr := os.Open("/dev/tty")
	if err != nil || kerr != nil || height < 3 {
		return cat(args)
	}
	defer keys.Close()
	left := height - 1
	quit := false
	return inputs(args, func(_ string, r io.Reader) error {
		if quit {
			return nil
		}
		return lines(r, func(s string) bool {
			if left == 0 {
				stdout.WriteString("--More--")
				stdout.Flush()
				switch key(keys) {
				case 'q', 3, 4, 0:
					quit = true
				case '\r', '\n':
					left = 1
				default:
					left = height - 1
				}
				stdout.WriteString("\r\x1b[K")
				if quit {
					return false
				}
			}
			left--
			stdout.WriteString(s + "\n")
			return true
		})
	})
}

// key reads one key press.
func key(f *os.File) byte {
	state, err := term.MakeRaw(int(f.Fd()))
	if err != nil {
		return 0
	}
	defer term.Restore(int(f.Fd()), state)
	var b [1]byte
	if n, _ := f.Read(b[:]); n == 0 {
		return 0
	}
	return b[0]
}
