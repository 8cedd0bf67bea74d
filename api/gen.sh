#!/usr/bin/env bash
# Regenerates every file of api/ from api/proto: plain code for everyone,
# gogoproto code for the ledger alone. Needs no network once the tools stand
# in .bin and the modules in the module cache.
set -euo pipefail
cd "$(dirname "$0")/.."
export GOBIN=$PWD/.bin PATH=$PWD/.bin:$PATH
tool() { [ -x ".bin/$1" ] || go install "$2"; }
tool buf github.com/bufbuild/buf/cmd/buf@v1.75.0
tool protoc-gen-gocosmos github.com/cosmos/gogoproto/protoc-gen-gocosmos@v1.7.2
tool protoc-gen-grpc-gateway github.com/grpc-ecosystem/grpc-gateway/protoc-gen-grpc-gateway@v1.16.0
tool protoc-gen-go google.golang.org/protobuf/cmd/protoc-gen-go@v1.36.11
tool protoc-gen-go-grpc google.golang.org/grpc/cmd/protoc-gen-go-grpc@v1.6.2
tool protoc-gen-connect-go connectrpc.com/connect/cmd/protoc-gen-connect-go@v1.21.1

# Third-party .proto files come out of the module cache.
third=third_party/proto
rm -rf $third .gen && mkdir -p $third .gen
dir() { go mod download "$1" && go list -m -f '{{.Dir}}' "$1"; }
copy() { # module-dir, destination, files or folders...
  local from=$1 to=$PWD/$third/$2; shift 2; mkdir -p "$to"
  (cd "$from" && find "$@" -name '*.proto' -print0 | xargs -0 cp --parents -t "$to"); chmod -R u+w "$to"
}
sdk=$(dir github.com/cosmos/cosmos-sdk)
copy "$sdk/proto" sdk cosmos/base/query cosmos/msg amino
copy "$(dir github.com/cosmos/gogoproto)" gogo gogoproto
copy "$(dir github.com/cosmos/cosmos-proto)/proto" cosmos_proto cosmos_proto
copy "$(dir github.com/grpc-ecosystem/grpc-gateway)/third_party/googleapis" googleapis google/api/annotations.proto google/api/http.proto

gen() { # template, .proto folders...
  local template=$1; shift
  local paths=(); for p in "$@"; do paths+=(--path "api/proto/fallow/$p"); done
  buf generate --template "$template" "${paths[@]}"
}
gen api/buf.gen.plain.yaml market hub node provider lease
gen api/buf.gen.grpc.yaml provider lease
gen api/buf.gen.connect.yaml hub node
gen api/buf.gen.chain.yaml provider lease
find api -name '*.go' -delete
cp -r .gen/plain/fallow.network/api/. api/
cp -r .gen/chain/fallow.network/api/. api/
rm -rf .gen
