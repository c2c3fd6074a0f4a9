#!/bin/sh
exec gate run -- "$@"
