#!/bin/sh
# compare.sh REFERENCE OURS: the tests that passed there and do not here, with the result here. Both files have lines
# "NAME RESULT ...".
awk 'FNR == NR { if ($2 == "PASS") ref[$1] = 1; next }
     /secs=/ && ($1 in ref) { if ($2 != "PASS") print $1, $2; else n++; delete ref[$1] }
     END { for (k in ref) print k, "MISSING"; print "#", n, "pass here too" }' "$1" "$2" | sort
