// Package taxond is a client of taxond: a channel, the stubs on it, and the calls that are streams as functions.
package taxond

import (
	"context"
	_ "embed"
	"fmt"
	"io"

	"google.golang.org/grpc"

	pb "example.com/taxond/taxondv1"
)

//go:generate ./generate

// Which calls gRPC repeats where the daemon is away. grpc-go before 1.40 does so only with GRPC_GO_RETRY=on.
//
//go:embed grpc-service-config.json
var serviceConfig string

// Examples in a message of AddExamples.
const batch = 1000

// Client is a connection to a daemon. The stubs of the services are there for the calls that have no function here; a
// request that takes a request id and has none is given one.
type Client struct {
	conn     *grpc.ClientConn
	Registry pb.RegistryServiceClient
	Dataset  pb.DatasetServiceClient
	Training pb.TrainingServiceClient
	Taxonomy pb.TaxonomyServiceClient
	Predict  pb.PredictServiceClient
}

// Dial makes a client of host:port, or unix:///path. The options must hold the credentials, such as grpc.WithInsecure();
// WithUser says who calls.
func Dial(ctx context.Context, address string, options ...grpc.DialOption) (*Client, error) {
	options = append([]grpc.DialOption{
		grpc.WithDefaultServiceConfig(serviceConfig),
		grpc.WithChainUnaryInterceptor(identifyUnary),
		grpc.WithChainStreamInterceptor(identifyStream),
	}, options...)
	conn, err := grpc.DialContext(ctx, address, options...)
	if err != nil {
		return nil, err
	}
	return &Client{
		conn:     conn,
		Registry: pb.NewRegistryServiceClient(conn),
		Dataset:  pb.NewDatasetServiceClient(conn),
		Training: pb.NewTrainingServiceClient(conn),
		Taxonomy: pb.NewTaxonomyServiceClient(conn),
		Predict:  pb.NewPredictServiceClient(conn),
	}, nil
}

// WithUser says who calls, which is kept as the author of changes: 1 to 128 bytes of UTF-8.
func WithUser(name string) grpc.DialOption { return grpc.WithPerRPCCredentials(user(name)) }

// user is what a caller says of itself. It is no secret, so it needs no encryption.
type user string

func (u user) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	for _, c := range u {
		if c < ' ' || c > '~' {
			// Metadata is ASCII; names in other scripts go as bytes.
			return map[string]string{"taxond-user-bin": string(u)}, nil
		}
	}
	return map[string]string{"taxond-user": string(u)}, nil
}

func (user) RequireTransportSecurity() bool { return false }

// Close ends the connection. Jobs go on.
func (c *Client) Close() error { return c.conn.Close() }

// AddExamples stores labelled texts, all of them or none.
func (c *Client) AddExamples(ctx context.Context, model string, examples []*pb.LabelledText) (*pb.AddExamplesResponse, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Dataset.AddExamples(ctx)
	if err != nil {
		return nil, err
	}
	request := &pb.AddExamplesRequest{Model: model}
	for {
		n := len(examples)
		if n > batch {
			n = batch
		}
		request.Examples, examples = examples[:n], examples[n:]
		// EOF means that the daemon has ended the call; CloseAndRecv says why.
		if err := stream.Send(request); err != nil && err != io.EOF {
			return nil, err
		} else if err == io.EOF || len(examples) == 0 {
			return stream.CloseAndRecv()
		}
		request = &pb.AddExamplesRequest{}
	}
}

// Train trains a model, calls each with what happens, and returns the job at its end. The job goes on in the daemon where
// ctx ends. A job that did not succeed is an error, a *JobError.
func (c *Client) Train(ctx context.Context, request *pb.TrainRequest, each func(*pb.JobEvent)) (*pb.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Training.Train(ctx, request)
	if err != nil {
		return nil, err
	}
	return follow(each, func() (*pb.JobEvent, error) {
		response, err := stream.Recv()
		return response.GetEvent(), err
	})
}

// Watch follows a job as Train does: what it has published so far, then what comes.
func (c *Client) Watch(ctx context.Context, job string, each func(*pb.JobEvent)) (*pb.Job, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.Training.WatchJob(ctx, &pb.WatchJobRequest{Name: job})
	if err != nil {
		return nil, err
	}
	return follow(each, func() (*pb.JobEvent, error) {
		response, err := stream.Recv()
		return response.GetEvent(), err
	})
}

// Merge makes one class of several. When it returns the merged class answers; the job of the result, if there is one,
// learns it: see Watch.
func (c *Client) Merge(ctx context.Context, request *pb.MergeClassesRequest) (*pb.ChangeApplied, error) {
	request.Detach = true
	stream, err := c.Taxonomy.MergeClasses(ctx, request)
	if err != nil {
		return nil, err
	}
	var applied *pb.ChangeApplied
	for {
		response, err := stream.Recv()
		if err == io.EOF && applied != nil {
			return applied, nil
		}
		if err != nil {
			return nil, err
		}
		if response.GetApplied() != nil {
			applied = response.GetApplied()
		}
	}
}

// JobError is a job that ended otherwise than by success.
type JobError struct{ Job *pb.Job }

func (e *JobError) Error() string {
	return fmt.Sprintf("%s %s: %s", e.Job.GetName(), e.Job.GetState(), e.Job.GetMessage())
}

func follow(each func(*pb.JobEvent), next func() (*pb.JobEvent, error)) (*pb.Job, error) {
	for {
		event, err := next()
		if err == io.EOF {
			return nil, io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, err
		}
		if each != nil {
			each(event)
		}
		if job := event.GetFinished().GetJob(); job != nil {
			if job.GetState() != pb.JobState_JOB_STATE_SUCCEEDED {
				return job, &JobError{job}
			}
			return job, nil
		}
	}
}
