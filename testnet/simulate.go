package main

import "github.com/urfave/cli/v2"

func simCommand() *cli.Command { return &cli.Command{Name: "sim", Hidden: true} }
