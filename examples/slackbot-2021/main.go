// Command slackbot is the example as it was written in 2021: Real Time Messaging instead of Socket
// Mode, Go 1.13. skiff's tests build it to show that an old Dockerfile still builds, with its own Go.
package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/slack-go/slack"
)

func main() {
	token := os.Getenv("SLACK_BOT_TOKEN")
	if token == "" {
		fmt.Fprintln(os.Stderr, "slackbot: SLACK_BOT_TOKEN is not set: create a token (xoxb-…) at https://api.slack.com/apps")
		os.Exit(1)
	}
	rtm := slack.New(token).NewRTM()
	go rtm.ManageConnection()
	for event := range rtm.IncomingEvents {
		switch data := event.Data.(type) {
		case *slack.MessageEvent:
			if me := rtm.GetInfo().User.ID; strings.Contains(data.Text, "<@"+me+">") {
				rtm.SendMessage(rtm.NewOutgoingMessage("Hello <@"+data.User+">!", data.Channel))
			}
		case *slack.InvalidAuthEvent:
			fmt.Fprintln(os.Stderr, "slackbot: Slack refuses SLACK_BOT_TOKEN")
			os.Exit(1)
		}
	}
}
