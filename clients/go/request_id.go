package taxond

import (
	"context"
	"crypto/rand"
	"encoding/hex"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// identify gives a request an id of its own, if it takes one and has none, so that gRPC may repeat the call: the daemon
// answers a repeat with the first answer.
func identify(request interface{}) error {
	message, ok := request.(proto.Message)
	if !ok {
		return nil
	}
	reflected := message.ProtoReflect()
	field := reflected.Descriptor().Fields().ByName("request_id")
	if field == nil || reflected.Get(field).String() != "" {
		return nil
	}
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return err
	}
	reflected.Set(field, protoreflect.ValueOfString(hex.EncodeToString(id)))
	return nil
}

func identifyUnary(
	ctx context.Context, method string, request, response interface{},
	conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if err := identify(request); err != nil {
		return err
	}
	return invoke(ctx, method, request, response, conn, options...)
}

func identifyStream(
	ctx context.Context, description *grpc.StreamDesc, conn *grpc.ClientConn,
	method string, open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, description, conn, method, options...)
	if err != nil {
		return nil, err
	}
	return &identified{ClientStream: stream}, nil
}

// identified is a stream whose first message bears a request id.
type identified struct {
	grpc.ClientStream
	begun bool
}

func (s *identified) SendMsg(message interface{}) error {
	if !s.begun {
		s.begun = true
		if err := identify(message); err != nil {
			return err
		}
	}
	return s.ClientStream.SendMsg(message)
}
