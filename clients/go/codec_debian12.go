//go:build debian12

package taxond

import (
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
)

// The grpc-go of Debian 12 is built with the first protobuf API, and what its protoc-gen-go makes is of the second: so this
// codec takes the place of the one in grpc-go. Later ones need none.
func init() { encoding.RegisterCodec(codec{}) }

type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message interface{}) ([]byte, error) {
	return proto.Marshal(message.(proto.Message))
}

func (codec) Unmarshal(data []byte, message interface{}) error {
	return proto.Unmarshal(data, message.(proto.Message))
}
