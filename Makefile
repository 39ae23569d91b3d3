# tnat64d: build, show, test. `make help` lists the targets.
#
# Only Go, gcc (for the race detector) and Debian 12 are assumed; whatever else
# a target needs it installs by itself, which takes root.

GO        ?= go
BIN       := bin
COMMANDS  := tnat64d tnat64ctl tnat64-lab tnat64 tnat64-gateway
VERSION   := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
FUZZTIME  ?= 10000x
SOAK      ?= 30m
TOOL      := $(GO) tool -modfile=packaging/tools/go.mod

# The Debian packages of the tests: programs that the end-to-end tests send
# across the lab, other DNS64 servers to compare ours with, a bus of its own for
# fake services, what masquerades the lab's guests, and clang to check that the
# committed BPF objects are what their source says.
TEST_PACKAGES  := curl iputils-ping traceroute iperf3 bind9-dnsutils bind9 unbound dbus-daemon nftables clang-14 llvm-14 libbpf-dev gcc libc6-dev musl-tools python3 wget git openssh-client openssh-server python3-requests iproute2 procps tcpdump dnsmasq-base dhcpcd-base kea-dhcp6-server ppp wireguard-tools util-linux debian-archive-keyring
# Of the benchmarks: a compiler for the load generator, and programs of the
# coverage table. Contestants are installed by the benchmarks themselves, which
# go on without those that cannot be.
BENCH_PACKAGES := gcc libc6-dev curl wget git openssh-client python3 iputils-ping bind9-dnsutils
BENCH_RESULTS  := $(CURDIR)/$(if $(QUICK),bin/benchmarks,benchmarks/results)
PACKAGING_PACKAGES := lintian shellcheck zsh fish libarchive-tools systemd
TESTVM_PACKAGES := debootstrap qemu-system-x86 e2fsprogs iproute2
TESTOTHERS_PACKAGES := debootstrap debian-archive-keyring util-linux iproute2 iputils-ping dnsmasq-base dhcpcd-base kea-dhcp6-server
TESTRPMARCH_PACKAGES := dnf rpm pacman-package-manager busybox-static
TESTIMAGE_PACKAGES := podman runc curl iputils-ping
TESTKERNEL_PACKAGES := qemu-system-x86 ppp wireguard-tools dbus-daemon iproute2 curl iputils-ping traceroute iperf3 bind9-dnsutils
# The other rows of the matrix: kernels and programs of other releases and architectures.
TESTMATRIX_PACKAGES := $(TESTKERNEL_PACKAGES) $(TESTVM_PACKAGES) qemu-system-arm xz-utils zstd debian-archive-keyring

export CGO_ENABLED ?= 0
# Where Go's own installer puts it, which sudo's PATH does not have.
export PATH := $(PATH):/usr/local/go/bin

.PHONY: help build demo demo-gateway shell test test-packages test-manifests check vulncheck test-race test-unprivileged test-all test-hostile test-kernel soak packages release test-vm fuzz bench bench-quick bench-shared bench-siit generate clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## build    the commands, into bin/
build:
	@command -v $(GO) >/dev/null || { echo '$(GO) is not in PATH; with sudo: sudo env "PATH=$$PATH" make ...' >&2; exit 1; }
	@mkdir -p $(BIN)
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/ $(COMMANDS:%=./cmd/%)
	@[ -z "$$SUDO_UID" ] || chown -Rh "$$SUDO_UID:$$SUDO_GID" $(BIN)

## demo     a whole 464XLAT network on this machine, shown in a dozen lines (root)
demo: build
	@$(BIN)/tnat64-lab demo

## demo-gateway  an IPv6-only network behind tnat64-gateway, seen on its links (root)
demo-gateway: build
	@packaging/install-packages.sh curl iproute2 procps python3 tcpdump
	@packaging/demo-gateway.sh $(BIN)

## demo-gateway-pair  two gateways, one of which dies; connections go on (root)
.PHONY: demo-gateway-pair
demo-gateway-pair: build
	@packaging/install-packages.sh keepalived conntrackd iproute2 iputils-ping procps python3
	@packaging/gateway-pair/demo.sh $(BIN)

## demo-gateway-anycast  three active gateways and BGP (ROUTING=bird or frr); one dies, one joins (root)
.PHONY: demo-gateway-anycast
demo-gateway-anycast: build
	@packaging/install-packages.sh $(if $(filter frr,$(ROUTING)),frr,bird2) iproute2 procps python3
	@packaging/gateway-anycast/demo.sh $(BIN) $(or $(ROUTING),bird)

## test-coredns  compares DNS64 with CoreDNS, which is a module of its own
.PHONY: test-coredns
test-coredns:
	@mkdir -p $(BIN)
	cd plat/dns64/coredns && $(GO) build -o $(abspath $(BIN))/test-coredns .
	TNAT64_COREDNS=$(abspath $(BIN))/test-coredns $(GO) test -count=1 -run TestOracles/CoreDNS -v ./plat/dns64

## shell    a shell on the laptop of that network (root)
shell: build
	@$(BIN)/tnat64-lab shell

## test     every test, installing the Debian packages it needs (root)
test:
	@packaging/stages.sh $(MAKE) test-packages check vulncheck test-manifests fuzz test-race test-kernel test-all

test-packages:
	@packaging/install-packages.sh $(TEST_PACKAGES) $(PACKAGING_PACKAGES) $(TESTKERNEL_PACKAGES)

check:
	$(GO) build ./...
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

## vulncheck  govulncheck on the vulnerability data that the module proxy has
vulncheck:
	$(GO) run ./packaging/vulncheck $(VULNCHECK_FLAGS)

# What has libraries of its own, in modules of its own: the manifests for clouds
# and clusters against the types of their APIs, the SBOM, the image, and the charts
# of the benchmarks.
test-manifests:
	$(GO) test -C packaging/manifests ./...
	$(GO) test -C packaging/sbom ./...
	$(GO) test -C packaging/image ./...
	$(GO) test -C benchmarks/charts ./...

# "make check" has vetted all packages with their tests; -vet=off does not do it
# again for each of the following.

# The race detector needs cgo. The lab's end-to-end tests run without it, as
# they test other processes.
test-race:
	CGO_ENABLED=1 $(GO) test -vet=off -race -short -exec $(CURDIR)/packaging/once-more.sh -timeout 60m ./shim ./siit ./tun/... ./pref64 ./clat ./plat/advertise ./plat/dns64 ./datapath/engine ./internal/bus ./internal/config ./internal/control ./internal/journal ./internal/resolvconf ./internal/resume ./internal/say

# As an ordinary user privileged tests skip with a reason and the rest passes.
test-unprivileged:
	$(GO) test -vet=off -short -timeout 60m -exec $(CURDIR)/packaging/as-nobody.sh ./...

# Every test, as an ordinary user and as root. The end-to-end tests take longest
# and so begin first.
test-all:
	TNAT64_REQUIRE_PRIVILEGED=1 $(GO) test -vet=off -count=1 -timeout 60m -exec $(CURDIR)/packaging/as-both.sh ./e2e ./...

## test-hostile  the tests that attack the daemon: local user, neighbour, exhaustion (root)
test-hostile: test-packages
	TNAT64_REQUIRE_PRIVILEGED=1 $(GO) test -count=1 -timeout 60m -run '^TestHostile' ./...

## test-kernel  the privileged and end-to-end tests on Debian 12's kernel, in qemu
test-kernel:
	@packaging/install-packages.sh $(TESTKERNEL_PACKAGES)
	$(GO) run ./packaging/test-kernel $(TESTKERNEL_FLAGS)

## test-others  NetworkManager's CLAT and clatd beside tnat64d and instead of it, and each
##          program that configures a host on networks of several kinds (root)
.PHONY: test-others
test-others:
	@packaging/install-packages.sh $(TESTOTHERS_PACKAGES)
	root=$$(nice ionice -c 3 $(GO) run ./packaging/test-others) && \
	TNAT64_TEST_OTHERS=$$root $(GO) test -count=1 -v -parallel 4 -timeout 30m $(TESTOTHERS_FLAGS) ./packaging/test-others

## test-matrix  Debian 12, 13 and forky, each network manager, in qemu: hours (root);
##          only rows that contain a word: TESTMATRIX_ROWS="trixie networkd";
##          `packaging/test-matrix.sh help` lists them, and how long each takes
.PHONY: test-matrix
test-matrix:
	@packaging/install-packages.sh $(TESTMATRIX_PACKAGES)
	@packaging/packages.sh amd64
	@packaging/test-matrix.sh $(TESTMATRIX_ROWS)

## packages deb, rpm and Arch Linux packages for amd64 and arm64, into dist/
packages:
	@packaging/packages.sh

## image    the OCI image for amd64 and arm64, into dist/tnat64d-image.tar
## test-image  that image in podman on the laptop of make shell (root)
.PHONY: image test-image
image:
	@packaging/image.sh

test-image: build image
	@packaging/install-packages.sh $(TESTIMAGE_PACKAGES)
	@packaging/test-image.sh

## test-rpm-arch  rpm and Arch Linux packages installed, upgraded and removed by dnf and pacman (root)
.PHONY: test-rpm-arch
test-rpm-arch:
	@packaging/install-packages.sh $(TESTRPMARCH_PACKAGES)
	@VERSION=v0.0.1 DIST=$(CURDIR)/dist/old packaging/packages.sh amd64
	@VERSION=v0.0.2 DIST=$(CURDIR)/dist/new packaging/packages.sh amd64
	@packaging/test-rpm-arch.sh dist/old dist/new

## release  packages, SBOMs, the changes and checksums into dist/, signed with RELEASE_KEY=PATH
release:
	@packaging/release.sh

## test-vm  the package on a booted Debian, in qemu (root); TESTVM_FLAGS="-release trixie -manager networkd"
test-vm:
	@packaging/install-packages.sh $(TESTVM_PACKAGES)
	@packaging/packages.sh amd64
	$(GO) run ./packaging/test-vm $(TESTVM_FLAGS)

## fuzz     every fuzz target for FUZZTIME (10000x: so many inputs)
fuzz:
	@packaging/fuzz.sh $(FUZZTIME)

## soak     random tests and fuzzing with fresh seeds for SOAK=30m (root)
soak:
	@packaging/soak.sh $(SOAK)

## bench    what reaching IPv4 costs, every contestant, in under 17 minutes (root)
## bench-quick  the same in under 4, or make bench QUICK=1
bench:
	@packaging/install-packages.sh $(BENCH_PACKAGES)
	$(GO) run ./benchmarks -install $(if $(QUICK),-quick) -out $(BENCH_RESULTS)
	$(GO) run -C benchmarks/charts . $(BENCH_RESULTS)
	$(if $(QUICK),,$(GO) run ./benchmarks -pages $(BENCH_RESULTS))

bench-quick:
	@$(MAKE) --no-print-directory bench QUICK=1

## bench-shared  a shared address beside the CLAT's own, in turn, in 7 minutes (root)
bench-shared:
	@packaging/install-packages.sh $(BENCH_PACKAGES)
	$(GO) run ./benchmarks -contestants kernel,kernel-shared -only 'tcp/1-*,udp/64-*,rr/udp,connect' -rounds 17 -out $(CURDIR)/bin/bench-shared

## bench-siit  the translator alone
bench-siit:
	$(GO) test -run '^$$' -bench . ./siit

## generate the BPF objects again (clang 14)
generate:
	$(GO) generate ./...

clean:
	rm -rf $(BIN) dist
