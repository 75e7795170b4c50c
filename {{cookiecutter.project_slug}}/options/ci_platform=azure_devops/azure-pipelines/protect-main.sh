#!/bin/sh
# Policies of main, by the Azure CLI with its extension azure-devops: azure-pipelines/protect-main.sh REPOSITORY
# A branch that has a blocking policy takes changes from pull requests only.
set -eu
repository=$(az repos show --repository "$1" --query id --output tsv)
pipeline=$(az pipelines show --name ci --query id --output tsv)

policy() {
    kind=$1
    shift
    az repos policy "$kind" create --repository-id "$repository" --branch main --enabled true --blocking true "$@"
}

# One review by somebody else, of what is merged.
policy approver-count --minimum-approver-count 1 --creator-vote-counts false --allow-downvotes false \
    --reset-on-source-push true
policy comment-required
# CI on what the merge would make; again when main has moved.
policy build --build-definition-id "$pipeline" --display-name CI --manual-queue-only false \
    --queue-on-source-update-only false --valid-duration 0
