package skiff_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/skiff-build/skiff"
)

// A program that builds an image, keeps it in its user's state and runs it.
func ExampleState_Build() {
	skiff.Init() // first of all: the program starts itself again to enter namespaces
	ctx := context.Background()
	state, err := skiff.Open(skiff.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer state.Close()
	result, err := state.Build(ctx, skiff.BuildOptions{
		Context:   "examples/slackbot",
		Tags:      []string{"slackbot:0.1"},
		BuildArgs: map[string]string{"SOURCE_DATE_EPOCH": "1700000000"},
		Progress:  os.Stderr,
	})
	if err != nil {
		fmt.Fprint(os.Stderr, skiff.DockerfileSource(err))
		log.Fatal(err)
	}
	fmt.Println(result.ID, result.Size)
	code, err := state.Run(ctx, skiff.RunOptions{Image: "slackbot:0.1", Stdout: os.Stdout, Stderr: os.Stderr})
	fmt.Println(code, err)
}
