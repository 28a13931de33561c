# make help lists the targets.
GO      ?= go
PREFIX  ?= /usr/local
GOFLAGS := -trimpath
export CGO_ENABLED := 0

ROOT    := cmd/linux/root/root.cpio
BUSYBOX := build/busybox

# What the program also is when it is started under these names.
TOOLS   := uml_mkcow uml_moo uml_mconsole uml_watchdog

.PHONY: all linux userland test race lint fmt bench crash fsx fuzz docs image debian-test conformance demo install help clean check-go

all: linux ## Build ./linux with its built-in root (the default)

check-go:
	@command -v $(GO) >/dev/null || { echo "Go 1.26 or later is needed: https://go.dev/dl/" >&2; exit 1; }
	@$(GO) version | grep -Eq 'go1\.(2[6-9]|[3-9][0-9])' || { $(GO) version >&2; echo "Go 1.26 or later is needed." >&2; exit 1; }

linux: check-go $(ROOT)
	$(GO) build $(GOFLAGS) -ldflags '-s -w' -o linux ./cmd/linux

userland: $(ROOT) ## Build only the built-in root

$(BUSYBOX): $(wildcard userland/*.go) userland/go.mod userland/go.sum | check-go
	@mkdir -p build
	cd userland && $(GO) build $(GOFLAGS) -ldflags '-s -w' -o ../$(BUSYBOX) .

$(ROOT): $(BUSYBOX) $(wildcard tools/mkroot/*.go)
	$(GO) run ./tools/mkroot -busybox $(BUSYBOX) -o $(ROOT)

test: linux lint ## Unit tests and lint; needs no root and no network
	$(GO) test ./...
	cd userland && $(GO) test ./...

race: ## Unit tests under the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race ./...

lint: ## gofmt, go vet, staticcheck
	@out=$$(gofmt -l cmd internal tools userland); [ -z "$$out" ] || { echo "gofmt would change:" $$out >&2; exit 1; }
	$(GO) vet ./...
	cd userland && $(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt: ## Format the code
	gofmt -w cmd internal tools userland

BENCH ?=
bench: linux ## Compare with the host and with linux.uml (BENCH=-quick for a short look)
	$(GO) run ./internal/bench $(BENCH)

ROUNDS ?= 100
crash: linux ## Kill guests at work on disks and cut their power, ROUNDS (100) times each kind
	POWERCUT_CUTS=$(ROUNDS) $(GO) test -timeout 0 -run '^TestPowerCut$$' ./internal/kernel/fs/ext4
	CRASH_ROUNDS=$(ROUNDS) GUESTTEST_LINUX=$(CURDIR)/linux $(GO) test -v -timeout 0 -run '^TestCrash$$' ./internal/guesttest

OPS ?= 100000
CPU ?= 0s
fsx: linux ## Do OPS (100000) random operations on a file in every mode of writing data, for CPU (1h of the processor's time) again and again
	FSX_OPS=$(OPS) FSX_CPU=$(CPU) GUESTTEST_LINUX=$(CURDIR)/linux $(GO) test -v -timeout 0 -run '^TestFsx$$' ./internal/guesttest

T ?= 30s
fuzz: ## Run every fuzz test for T (30s)
	@for pkg in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$pkg | grep ^Fuzz); do \
			echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(T) $$pkg || exit 1; \
		done; \
	done

docs: ## Make docs/syscalls.md and the options in docs/linux.1 from the code
	$(GO) test -run '^TestList$$' ./internal/kernel/syscalls -update
	$(GO) test -run '^TestManual$$' ./internal/cmdline -update

DEBIAN   := build/debian.ext4
PACKAGES ?= gcc,libc6-dev,make,git,sqlite3,psmisc,strace,gdb,libboost-regex1.74.0,less,vim-tiny,perl,python3,gawk,xz-utils,file,tmux
image: linux ## An image of Debian in build/ (PACKAGES=...; needs debootstrap, fakeroot and a network, no root)
	tools/mkdebian/mkdebian.sh -c build/debs -s 4G -p $(PACKAGES) $(DEBIAN)

$(DEBIAN):
	$(MAKE) image

SYSTEMD := build/systemd.ext4
$(SYSTEMD): | linux
	tools/mkdebian/mkdebian.sh -i systemd -c build/debs $(SYSTEMD)

debian-test: linux $(DEBIAN) $(SYSTEMD) ## Have the programs of Debian do real work in guests, and boot it
	GUESTTEST_DEBIAN=$(CURDIR)/$(DEBIAN) GUESTTEST_SYSTEMD=$(CURDIR)/$(SYSTEMD) GUESTTEST_LINUX=$(CURDIR)/linux $(GO) test -v -timeout 30m -run '^TestDebian' ./internal/guesttest

conformance: linux $(DEBIAN) ## Run other people's test suites in guests, for hours (STEPS=go,posix,pts,python; needs a network)
	STEPS="$(subst $(comma), ,$(STEPS))" testdata/conformance/run.sh ./linux $(DEBIAN) build/conformance

# With DEMO=debian the disk is a copy-on-write layer, so that the image stays as it is.
DEMO ?=
comma := ,
DEMOARGS := quiet mem=256M $(if $(filter debian,$(DEMO)),ubd0=debian.cow$(comma)$(CURDIR)/$(DEBIAN))
demo: linux $(if $(filter debian,$(DEMO)),$(DEBIAN)) ## A shell, or DEMO=debian: a login, in a guest of a normal user (ARGS=eth0=user adds options)
	@dir=$$(mktemp -d) && cp linux $$dir/linux && cd $$dir && trap 'rm -rf "$$dir"' EXIT && \
	echo "$(if $(DEMO),Log in as root (password root) or user (password user); poweroff ends the guest.,Type exit to leave the guest.)" >&2 && \
	if [ "$$(id -u)" = 0 ] && command -v setpriv >/dev/null && id nobody >/dev/null 2>&1; then \
		chown -R nobody $$dir && echo "Running as the user nobody: a guest needs no root." >&2 && \
		HOME=$$dir setpriv --reuid nobody --clear-groups --no-new-privs ./linux $(DEMOARGS) $(ARGS); \
	else \
		./linux $(DEMOARGS) $(ARGS); \
	fi

install: linux ## Install the program, its other names and their manual pages below $(PREFIX)
	install -D -m 755 linux $(DESTDIR)$(PREFIX)/bin/linux
	for tool in $(TOOLS); do ln -sf linux $(DESTDIR)$(PREFIX)/bin/$$tool; done
	for page in linux.1 uml_mconsole.1; do install -D -m 644 docs/$$page $(DESTDIR)$(PREFIX)/share/man/man1/$$page; done

clean: ## Remove what was built
	rm -rf linux build $(ROOT)

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12
