package main

import (
	"fmt"
	"path/filepath"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"

	"github.com/peersignal/peersignal/pkg/peer"
	"github.com/peersignal/peersignal/pkg/sync/files"
)

// filesName is the folder of files in the data folder.
const filesName = "files"

// fileSettings are the limits of files.
type fileSettings struct {
	quota  int64
	limits peer.FileLimits
}

// fileSizeKeys are settings that are sizes, such as 10GB.
var fileSizeKeys = []string{"file-quota", "file-upload-rate", "file-peer-upload-rate", "file-download-rate"}

func fileFlags(f *pflag.FlagSet) {
	f.String("file-quota", "", "most space for files, such as 50GB (default: the disk)")
	f.String("file-upload-rate", "", "most that is sent of files in a second, such as 2MB (default: no limit)")
	f.String("file-peer-upload-rate", "", "the same for each device")
	f.String("file-download-rate", "", "most that is fetched of files in a second")
}

func (s *fileSettings) parse(v *viper.Viper) error {
	for i, to := range []*int64{&s.quota, &s.limits.UploadRate, &s.limits.PeerUploadRate, &s.limits.DownloadRate} {
		text := v.GetString(fileSizeKeys[i])
		if text == "" {
			continue
		}
		n, err := humanize.ParseBytes(text)
		if err != nil || n == 0 || n > 1<<60 {
			return usageError{fmt.Errorf("%s is %q: want a size such as 500MB", fileSizeKeys[i], text)}
		}
		*to = int64(n)
	}
	return nil
}

func (a *app) openFiles() (*files.Store, error) {
	return files.Open(filepath.Join(a.cfg.data, filesName), files.Options{Quota: a.cfg.files.quota})
}
