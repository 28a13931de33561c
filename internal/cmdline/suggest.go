package cmdline

import "strings"

// plainWords are words for init that look like options but are not mistyped ones.
var plainWords = map[string]bool{
	"single": true, "emergency": true, "rescue": true, "auto": true, "text": true, "nomodeset": true, "splash": true,
	"S": true, "s": true, "-s": true, "-b": true, "-z": true, "halt": true, "devfs": true, "data": true,
}

// suggest returns the known option that word was probably meant to be, "" if there is none.
func suggest(word string) string {
	name, _, hasValue := strings.Cut(word, "=")
	key := canonical(strings.TrimRight(name, "0123456789+:"))
	if len(key) < 3 || plainWords[name] || key != strings.ToLower(key) {
		return ""
	}
	limit := 1
	if len(key) >= 6 {
		limit = 2
	}
	best, bestDist := "", limit+1
	consider := func(candidate string) {
		if candidate == "" {
			return
		}
		bare := canonical(strings.TrimSuffix(candidate, "="))
		if strings.HasSuffix(candidate, "=") != hasValue && bare != key {
			return // an option with a value is not mistaken for one without
		}
		if d := distance(key, bare, limit); d < bestDist || d == bestDist && candidate < best {
			best, bestDist = candidate, d
		}
	}
	for i := range options {
		for _, n := range options[i].names {
			consider(n)
		}
	}
	for name := range params {
		consider(paramForm(name))
	}
	return best
}

// distance is the number of letters to add, remove, change or swap with a neighbour to get from a to b; more than limit
// may be returned as limit+1.
func distance(a, b string, limit int) int {
	if abs(len(a)-len(b)) > limit {
		return limit + 1
	}
	prev2, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], prev2[j-2]+1)
			}
		}
		prev2, prev, cur = prev, cur, prev2
	}
	return prev[len(b)]
}

func abs(n int) int { return max(n, -n) }
