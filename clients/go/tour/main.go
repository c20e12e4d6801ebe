// The main job against a running daemon: create, add, train, predict, merge, undo.
//
//	tour FILE.tsv [ADDRESS]
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"example.com/taxond"
	pb "example.com/taxond/taxondv1"
)

const model = "models/go-tour"

func main() {
	log.SetFlags(0)
	if len(os.Args) < 2 {
		log.Fatal("usage: tour FILE.tsv [ADDRESS]")
	}
	address := "127.0.0.1:50061"
	if len(os.Args) > 2 {
		address = os.Args[2]
	}
	if err := tour(context.Background(), os.Args[1], address); err != nil {
		log.Fatal(err)
	}
}

func tour(ctx context.Context, path, address string) error {
	examples, err := taxond.ReadTSV(path)
	if err != nil {
		return err
	}
	client, err := taxond.Dial(ctx, address, grpc.WithInsecure())
	if err != nil {
		return err
	}
	defer client.Close()

	if _, err := client.Registry.CreateModel(ctx, &pb.CreateModelRequest{ModelId: "go-tour"}); err != nil {
		return err
	}
	added, err := client.AddExamples(ctx, model, examples)
	if err != nil {
		return err
	}
	fmt.Printf("%d examples\n", added.GetAdded())

	job, err := client.Train(ctx, &pb.TrainRequest{Model: model, Seed: proto.Uint64(1)}, tell)
	if err != nil {
		return err
	}
	fmt.Println(job.GetState())

	if err := ask(ctx, client); err != nil {
		return err
	}
	merge := &pb.MergeClassesRequest{Model: model, Classes: []string{"取款两万以下", "取款两万以上"}, Into: "取款"}
	applied, err := client.Merge(ctx, merge)
	if err != nil {
		return err
	}
	fmt.Printf("%s, after %.1f ms\n", applied.GetManifest().GetDescription(), applied.GetSeconds()*1000)
	if err := ask(ctx, client); err != nil {
		return err
	}
	if _, err := client.Watch(ctx, applied.GetJob(), tell); err != nil {
		return err
	}
	if _, err := client.Taxonomy.UndoChange(ctx, &pb.UndoChangeRequest{Model: model}); err != nil {
		return err
	}
	if err := ask(ctx, client); err != nil {
		return err
	}
	_, err = client.Registry.DeleteModel(ctx, &pb.DeleteModelRequest{Name: model})
	return err
}

func tell(event *pb.JobEvent) {
	if progress := event.GetProgress(); progress != nil {
		fmt.Fprintf(os.Stderr, "%s %d/%d loss %.3f\n", progress.Stage, progress.Epoch, progress.Epochs, progress.Loss)
	}
	if version := event.GetPublished().GetVersion(); version != nil {
		fmt.Printf("%s: %s\n", version.GetName(), version.GetReport().GetGate())
	}
}

func ask(ctx context.Context, client *taxond.Client) error {
	texts := []string{"我想取三万元现金", "please block my lost card"}
	answer, err := client.Predict.Predict(ctx, &pb.PredictRequest{Model: model, Texts: texts})
	if err != nil {
		return err
	}
	for i, prediction := range answer.GetPredictions() {
		best := prediction.GetClasses()[0]
		fmt.Printf("%s %s: %s %.4f\n", answer.GetVersion(), texts[i], best.GetName(), best.GetProbability())
	}
	return nil
}
