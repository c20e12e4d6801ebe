package taxond

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	pb "example.com/taxond/taxondv1"
)

const small, large = "取款两万以下", "取款两万以上"

// connect makes a client of the daemon at TAXOND_ADDR, and a model of its own with the examples of the interop tests.
func connect(t *testing.T, id string) (context.Context, *Client, string) {
	t.Helper()
	ctx := context.Background()
	client, err := Dial(ctx, os.Getenv("TAXOND_ADDR"), grpc.WithInsecure(), WithUser("张伟"))
	check(t, err)
	t.Cleanup(func() { client.Close() })
	created, err := client.Registry.CreateModel(ctx, &pb.CreateModelRequest{ModelId: id})
	check(t, err)
	examples, err := ReadTSV(filepath.Join(os.Getenv("TAXOND_TREE"), "tests/interop/data/intents.tsv"))
	check(t, err)
	added, err := client.AddExamples(ctx, created.GetModel().GetName(), examples)
	check(t, err)
	if added.GetAdded() != uint64(len(examples)) {
		t.Fatalf("added %d of %d examples", added.GetAdded(), len(examples))
	}
	return ctx, client, created.GetModel().GetName()
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestCreateAddTrainPredictMergeUndo(t *testing.T) {
	ctx, client, model := connect(t, "session")
	progress := 0
	_, err := client.Train(ctx, &pb.TrainRequest{Model: model, Seed: proto.Uint64(1)}, func(event *pb.JobEvent) {
		if event.GetProgress() != nil {
			progress++
		}
	})
	check(t, err)
	if progress == 0 {
		t.Fatal("no progress was told")
	}
	ask := func() map[string]float64 {
		request := &pb.PredictRequest{Model: model, Texts: []string{"我想取三万元现金"}, TopK: proto.Uint32(10)}
		answer, err := client.Predict.Predict(ctx, request)
		check(t, err)
		found := map[string]float64{}
		for _, class := range answer.GetPredictions()[0].GetClasses() {
			found[class.GetName()] = class.GetProbability()
		}
		return found
	}
	before := ask()
	merge := &pb.MergeClassesRequest{Model: model, Classes: []string{small, large}, Into: "取款"}
	applied, err := client.Merge(ctx, merge)
	check(t, err)
	if job, err := client.Watch(ctx, applied.GetJob(), nil); err != nil {
		t.Fatalf("%v: %v", job, err)
	}
	undone, err := client.Taxonomy.UndoChange(ctx, &pb.UndoChangeRequest{Model: model})
	check(t, err)
	if author := undone.GetManifest().GetAuthor(); author != "张伟" {
		t.Fatalf("the author is %q", author)
	}
	for name, probability := range ask() {
		if before[name] != probability {
			t.Fatalf("%s was %v before the merge and is %v after the undo", name, before[name], probability)
		}
	}
	_, err = client.Merge(ctx, &pb.MergeClassesRequest{
		Model: model, Classes: []string{small, large}, Into: "取款", Learn: pb.Learn_LEARN_NONE,
	})
	check(t, err)
	if sum := before[small] + before[large]; math.Abs(ask()["取款"]-sum) > 1e-6 {
		t.Fatalf("the merged class has %v, its parts had %v", ask()["取款"], sum)
	}
}

func TestAnErrorSaysWhatIsWrong(t *testing.T) {
	ctx, client, model := connect(t, "errors")
	_, err := client.Predict.Predict(ctx, &pb.PredictRequest{Model: model, Texts: []string{"fine", " "}})
	if code := status.Code(err); code != codes.InvalidArgument {
		t.Fatalf("got %v", err)
	}
	if reason, _ := Reason(err); reason != "INVALID_FIELDS" || Violations(err)[0].GetField() != "texts[1]" {
		t.Fatalf("got reason %s, violations %v", reason, Violations(err))
	}
	many := make([]*pb.LabelledText, 100_000)
	for i := range many {
		many[i] = &pb.LabelledText{Text: "text", Label: "a"}
	}
	if _, err := client.AddExamples(ctx, "models/nowhere", many); status.Code(err) != codes.NotFound {
		t.Fatalf("got %v", err)
	}
}

func TestAJobThatIsCancelledIsAnError(t *testing.T) {
	ctx, client, model := connect(t, "cancelled")
	cancelled := false
	_, err := client.Train(ctx, &pb.TrainRequest{Model: model, Epochs: proto.Uint32(1000)}, func(event *pb.JobEvent) {
		if event.GetProgress() != nil && !cancelled {
			cancelled = true
			_, err := client.Training.CancelJob(ctx, &pb.CancelJobRequest{Name: event.GetJob()})
			check(t, err)
		}
	})
	var failed *JobError
	if !errors.As(err, &failed) || failed.Job.GetState() != pb.JobState_JOB_STATE_CANCELLED {
		t.Fatalf("got %v", err)
	}
}

func TestAnUploadThatIsCancelledStoresNothing(t *testing.T) {
	ctx, client, _ := connect(t, "whole")
	_, err := client.Registry.CreateModel(ctx, &pb.CreateModelRequest{ModelId: "half"})
	check(t, err)
	example := func(text string) []*pb.LabelledText { return []*pb.LabelledText{{Text: text, Label: "a"}} }
	for _, pause := range []time.Duration{0, 1, 10, 50, 100} {
		first := &pb.AddExamplesRequest{
			Model: "models/half", RequestId: fmt.Sprintf("half-%d", pause), Examples: example(fmt.Sprintf("one %d", pause)),
		}
		given, cancel := context.WithCancel(ctx)
		stream, err := client.Dataset.AddExamples(given)
		check(t, err)
		check(t, stream.Send(first))
		time.Sleep(pause * time.Millisecond)
		cancel()
		for {
			whole, err := client.Dataset.AddExamples(ctx)
			check(t, err)
			check(t, whole.Send(first))
			// EOF means that the daemon has ended the call; CloseAndRecv says why.
			if err := whole.Send(&pb.AddExamplesRequest{Examples: example(fmt.Sprintf("two %d", pause))}); err != io.EOF {
				check(t, err)
			}
			added, err := whole.CloseAndRecv()
			// The daemon may not have noticed yet that the first call was given up.
			if code := status.Code(err); code == codes.Aborted || code == codes.Unavailable {
				continue
			}
			check(t, err)
			if added.GetAdded() != 2 {
				t.Fatalf("after %d ms the repeat added %d of 2 examples", pause, added.GetAdded())
			}
			break
		}
	}
}

// refusing is a daemon that cannot take the first two calls.
type refusing struct {
	pb.UnimplementedTaxonomyServiceServer
	ids []string
}

func (r *refusing) UndoChange(_ context.Context, request *pb.UndoChangeRequest) (*pb.UndoChangeResponse, error) {
	r.ids = append(r.ids, request.GetRequestId())
	if len(r.ids) < 3 {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	return &pb.UndoChangeResponse{}, nil
}

func TestACallIsRepeatedUnderTheSameRequestId(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	server, daemon := grpc.NewServer(), &refusing{}
	pb.RegisterTaxonomyServiceServer(server, daemon)
	go server.Serve(listener)
	defer server.Stop()
	client, err := Dial(context.Background(), listener.Addr().String(), grpc.WithInsecure())
	check(t, err)
	defer client.Close()
	_, err = client.Taxonomy.UndoChange(context.Background(), &pb.UndoChangeRequest{Model: "models/bank"})
	check(t, err)
	if ids := daemon.ids; len(ids) != 3 || ids[0] != ids[1] || ids[1] != ids[2] || len(ids[0]) != 32 {
		t.Fatalf("got the request ids %q", ids)
	}
}
