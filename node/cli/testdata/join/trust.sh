# Has the nodes of found.sh trust the authority in a folder, for an institution.
cat >>settings.toml <<END
[[trust]]
roots = "$WORK/$1/ca.pem"
crl = ["$WORK/$1/ca.crl"]
institutions = ["$2"]
END
